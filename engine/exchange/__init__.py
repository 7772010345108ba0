"""Export and import of genotypes, searches and networks, as files that other programs can read or have written."""
