"""What the commands under ``crm`` have in common: which CRM they are about."""

from __future__ import annotations

from pathlib import Path

import click

data_dir = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="where the CRM keeps its database",
)
