"""Studies, which compare search methods or settings (the arms) over several random seeds. Imports no torch."""
