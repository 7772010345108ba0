"""The pages, one file each; `app.main` draws the one that was asked for."""
