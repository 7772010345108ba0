"""What pages are made of: live panels and plots, cell graphs, forms, tables, states."""
