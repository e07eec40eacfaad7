"""What enrolment gave this terminal: ``crm.json`` in the data directory (mode 0600), or a credential of the service."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.files import write_private
from terminal_agent.sync.client import Credentials, checked_url

CREDENTIALS_FILE = "crm.json"
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"


def service_credentials() -> Path | None:
    """Where systemd has put the credentials of this service; None when it did not start us."""
    folder = os.environ.get(CREDENTIALS_VARIABLE)
    return Path(folder) if folder else None


def load_credentials(data_dir: Path, configured_url: str | None) -> Credentials | None:
    """The credentials, or None before enrolment; a URL in the config file wins. Raises AgentError."""
    sealed = service_credentials()
    path = data_dir / CREDENTIALS_FILE
    if sealed is not None and not path.exists():  # one that is there is of a later enrolment
        path = sealed / CREDENTIALS_FILE
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
