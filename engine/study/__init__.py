"""Studies, which compare arms (for example search methods or settings) over several random seeds. Imports no torch."""
