"""Pure functions that turn tables of the run log into Plotly figures. They do not use Streamlit."""
