"""Alembic's environment: runs the migrations on the connection that ``schema.migrate`` opened."""

from alembic import context

from event_hooks.ledger.schema import VERSION_TABLE
from event_hooks.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
