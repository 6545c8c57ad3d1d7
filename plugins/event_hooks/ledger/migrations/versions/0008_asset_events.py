"""Add the table of pending asset events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from event_hooks.ledger.tables import Instant

revision = "asset_events"
down_revision = "notifications"


def upgrade() -> None:
    """Create the table; events that were received before have no asset events."""
    identifier = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "asset_event",
        sa.Column("id", identifier, primary_key=True, autoincrement=True),
        sa.Column("event_id", identifier, sa.ForeignKey("event.id", ondelete="CASCADE"), nullable=False),
        sa.Column("process", sa.String(250)),
        sa.Column("attempt", sa.String(36)),
        sa.Column("created_at", Instant, nullable=False),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    op.create_index("asset_event_of_event", "asset_event", ["event_id"])
