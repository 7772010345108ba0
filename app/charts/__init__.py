"""Tables of the run log as Plotly figures: pure functions, without Streamlit."""
