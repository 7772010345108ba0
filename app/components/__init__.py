"""The building blocks of pages: live panels and plots, forms, tables, and boxes for empty states and problems."""
