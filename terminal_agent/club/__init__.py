"""The club's rules as pure functions: the same code in the terminal and in the CRM. Imports nothing of ours."""
