"""The building blocks of pages, such as live panels, plots, forms, tables and message boxes."""
