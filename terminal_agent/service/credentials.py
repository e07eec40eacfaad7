"""What enrolment gave this terminal, in ``crm.json`` (mode 0600) in the data directory."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.files import write_private
from terminal_agent.sync.client import Credentials, checked_url

CREDENTIALS_FILE = "crm.json"


def load_credentials(data_dir: Path, configured_url: str | None) -> Credentials | None:
    """The credentials, or None before enrolment; a URL in the config file wins. Raises AgentError."""
    path = data_dir / CREDENTIALS_FILE
    if configured_url is not None:
        configured_url = checked_url(configured_url)
    try:
        stored = json.loads(path.read_text())
        return Credentials(
            crm_url=configured_url or stored["crm_url"],
            terminal_id=stored["terminal_id"],
            programme_id=stored["programme_id"],
            token=stored["token"],
            secret=base64.b64decode(stored["secret"], validate=True),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AgentError(
            ErrorCode.CONFIG_INVALID,
            f"the credentials in {path} cannot be read ({type(error).__name__})",
            hint="Join the CRM again: terminal-agent enroll --crm-url URL --code-file FILE",
        ) from error


def store_credentials(data_dir: Path, credentials: Credentials) -> None:
    """Keep them, in one step."""
    document = {
        "crm_url": credentials.crm_url,
        "terminal_id": credentials.terminal_id,
        "programme_id": credentials.programme_id,
        "token": credentials.token,
        "secret": base64.b64encode(credentials.secret).decode(),
    }
    write_private(data_dir / CREDENTIALS_FILE, json.dumps(document, indent=1) + "\n")
