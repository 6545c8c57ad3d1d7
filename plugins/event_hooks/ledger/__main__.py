"""
The ledger's tables on the command line.

``python -m event_hooks.ledger migrate`` brings them to the version of this code, ``check`` tells whether they
are, ``prune`` forgets what is older than the setting ``ledger_retention_days``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta

from event_hooks import settings
from event_hooks.exceptions import LedgerUnreachable
from event_hooks.ledger import database
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.retention import prune_events


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; 1 if the ledger cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m event_hooks.ledger", description=__doc__)
    parser.add_argument("verb", choices=("migrate", "check", "prune"))
    verb = parser.parse_args(argv).verb
    try:
        if verb == "migrate":
            with database.translate_errors(database.CONN_ID):
                database.migrate(database.engine())
        ledger = Ledger()
        if verb == "prune":
            days = settings.ledger_retention_days()
            print(f"{prune_events(ledger, timedelta(days=days))} events older than {days:g} days forgotten")
        else:
            print("The ledger's tables are of this version")
    except LedgerUnreachable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
