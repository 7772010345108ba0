"""From tables of the run log to Plotly figures: pure functions, no Streamlit."""
