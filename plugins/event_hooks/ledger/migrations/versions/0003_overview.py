"""When job trees were seen at work, and indexes for who looks at events by state, type or genome."""

import sqlalchemy as sa
from alembic import op

from event_hooks.ledger.tables import Instant

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add two columns and three indexes."""
    with op.batch_alter_table("event") as event:
        event.create_index("event_by_type", ["type", "id"])
        event.create_index("event_by_genome", ["genome", "id"], postgresql_ops={"genome": "text_pattern_ops"})
    with op.batch_alter_table("event_process") as process:
        process.add_column(sa.Column("started_at", Instant))
        process.add_column(sa.Column("changed_at", Instant))
        process.create_index("event_process_by_state", ["state", "ended_at"])
