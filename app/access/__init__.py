"""Access to the dashboard: allowed host names, protective headers, and the doors that ask for a token or a login."""
