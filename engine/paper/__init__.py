"""The paper pack: tables, figures, settings, commands, hashes and a methods paragraph of chosen runs, in one ZIP file."""
