"""Alembic's entry: runs the migrations on the connection that ``database.migrate`` has opened."""

from alembic import context

from event_hooks.ledger.database import VERSION_TABLE
from event_hooks.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
