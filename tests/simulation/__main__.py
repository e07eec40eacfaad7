"""``python -m tests.simulation --seed N --days D``: live one seeded world, or many."""

from __future__ import annotations

import sys

from tests.simulation.command import main

sys.exit(main())
