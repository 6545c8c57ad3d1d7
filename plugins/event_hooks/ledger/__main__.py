"""
Command line for the ledger's tables.

``python -m event_hooks.ledger migrate`` migrates the tables to the version of this code. ``check`` checks
their version. ``prune`` deletes events older than the setting ``ledger_retention_days``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta

from event_hooks import settings
from event_hooks.exceptions import LedgerUnreachable
from event_hooks.ledger import schema
from event_hooks.ledger.database import CONN_ID, Ledger, build_engine, translate_errors
from event_hooks.ledger.retention import prune_events


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 1 if the ledger cannot be used, else 0."""
    parser = argparse.ArgumentParser(prog="python -m event_hooks.ledger", description=__doc__)
    parser.add_argument("command", choices=("migrate", "check", "prune"))
    command = parser.parse_args(argv).command
    try:
        if command == "migrate":
            with translate_errors(CONN_ID):
                schema.migrate(build_engine(), CONN_ID)
        ledger = Ledger()
        if command == "prune":
            days = settings.ledger_retention_days()
            print(f"{prune_events(ledger, timedelta(days=days))} events older than {days:g} days deleted")
        else:
            print("The ledger's tables have the version of this code")
    except LedgerUnreachable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
