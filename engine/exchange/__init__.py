"""Export and import of genotypes, searches and networks as files that other programs read and write."""
