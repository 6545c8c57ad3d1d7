"""Add the number of times that a user had a process run again as a new job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "retries"
down_revision = "collected_event_keys"


def upgrade() -> None:
    """Add the column."""
    op.add_column("event_process", sa.Column("rerun", sa.Integer, nullable=False, server_default="0"))
