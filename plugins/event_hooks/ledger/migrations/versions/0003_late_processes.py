"""Add the time when a process was reported as late."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from event_hooks.ledger.tables import Instant

revision = "late_processes"
down_revision = "one_source_of_truth"


def upgrade() -> None:
    """Add the column."""
    op.add_column("event_process", sa.Column("late_at", Instant))
