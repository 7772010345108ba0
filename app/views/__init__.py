"""The pages, one file each; `app.main` routes to them."""
