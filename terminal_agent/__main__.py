"""``python -m terminal_agent`` is ``terminal-agent``."""

from terminal_agent.cli.main import main

if __name__ == "__main__":
    main()
