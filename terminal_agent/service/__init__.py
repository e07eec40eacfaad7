"""Lifecycle: settings, secrets on disk, the agent's wiring, its operations, the daemon and its control socket."""
