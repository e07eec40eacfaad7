"""The CRM from the terminal's side: events go up exactly once, the CRM's decisions come down."""
