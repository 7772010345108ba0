"""The pages of the dashboard, with one file per page. `app.main` routes to them."""
