"""A chain that was offline for a day comes back: thousands of terminals, one CRM on PostgreSQL, all on this machine."""
