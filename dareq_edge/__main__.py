"""``python -m dareq_edge`` is the command line."""

from __future__ import annotations

import sys

from dareq_edge.cli import main

sys.exit(main())
