"""How fast, how small: our figures beside a yardstick's. Run scripts/bench; docs/performance.md says how to read it."""
