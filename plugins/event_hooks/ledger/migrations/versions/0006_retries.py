"""
Add the number of times that a user had a process run again as a new job.

The index of jobs no longer begins with the hive, because the event board finds events by the id of a job.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "retries"
down_revision = "collected_event_keys"


def upgrade() -> None:
    """Add the column, and replace the index."""
    op.add_column("event_process", sa.Column("rerun", sa.Integer, nullable=False, server_default="0"))
    op.drop_index("event_process_job", "event_process")
    op.create_index("event_process_by_job", "event_process", ["job_id"])
