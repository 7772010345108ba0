"""The building blocks of pages: live panels and plots, forms, tables, states."""
