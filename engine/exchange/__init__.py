"""Export of genotypes, networks and runs to files for other programs, and import of files that other programs have written."""
