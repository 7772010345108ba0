"""Studies: declared comparisons of arms over seeds, from the question to the answer. Imports no torch."""
