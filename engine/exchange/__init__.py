"""Export of genotypes and networks to files for other programs, and import of files that other programs have written."""
