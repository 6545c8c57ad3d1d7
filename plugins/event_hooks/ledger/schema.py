"""The version of the ledger's tables: migrate them, and check them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from event_hooks.exceptions import LedgerNotMigrated, LedgerUnreachable

if TYPE_CHECKING:
    from sqlalchemy import Engine

VERSION_TABLE = "event_ledger_version"
"""Not Alembic's default name, because the ledger may share a database with tables of other applications."""

# At INFO, Alembic logs two lines for each check of the version.
logging.getLogger("alembic").setLevel(logging.WARNING)


def migrate(engine: Engine, conn_id: str) -> None:
    """
    Migrate the tables to the version of this code; idempotent.

    :raises LedgerUnreachable: if they have a version that this code does not have.
    """
    config = build_config()
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        reason = f"its tables cannot be migrated: {error}. Use an empty database, or the code of that version"
        raise LedgerUnreachable(conn_id, reason) from error


def check_version(engine: Engine, conn_id: str) -> None:
    """
    Check that the tables have the version of this code; costs one query.

    :raises LedgerNotMigrated: if they have another version.
    """
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        version = context.get_current_revision()
    expected = ScriptDirectory.from_config(build_config()).get_current_head()
    if version != expected:
        raise LedgerNotMigrated(conn_id, version, str(expected))


def build_config() -> Config:
    """Return the configuration of Alembic for the migrations of the ledger."""
    config = Config()
    # Alembic interpolates "%" in options.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
