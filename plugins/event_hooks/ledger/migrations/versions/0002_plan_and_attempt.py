"""What is planned before it is submitted, and which attempt an outcome is of."""

import sqlalchemy as sa
from alembic import op

from event_hooks.ledger.tables import Instant

revision = "0002"
down_revision = "0001"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add columns, and allow a process of an event that has no job yet."""
    with op.batch_alter_table("event") as event:
        event.add_column(sa.Column("routed_at", Instant))
        event.create_index("event_unrouted", ["routed_at", "id"])
    op.execute("UPDATE event SET routed_at = received_at WHERE run_id IS NOT NULL")
    with op.batch_alter_table("event_process") as process:
        process.alter_column("job_id", existing_type=ID, nullable=True)
        process.alter_column("submitted_at", existing_type=Instant, nullable=True)
        process.add_column(sa.Column("attempt", sa.String(36)))
