"""Who may use the dashboard: allowed hosts, protective headers, and the token that every visitor must show."""
