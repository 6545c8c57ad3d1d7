"""The database server's clock: all times that the ledger stores and compares are of this one clock."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from event_hooks.ledger.tables import Instant

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from event_hooks.ledger.database import Ledger


class utc_now(FunctionElement[datetime]):  # noqa: N801 (it is named like SQLAlchemy's functions)
    """The present time as the column type ``Instant`` stores it."""

    type = Instant()
    inherit_cache = True


@compiles(utc_now, "postgresql")
def _compile_postgresql(element: utc_now, compiler: Any, **kwargs: Any) -> str:
    return "timezone('UTC', clock_timestamp())"  # now() is the start of the transaction


@compiles(utc_now, "mysql")
@compiles(utc_now, "mariadb")
def _compile_mysql(element: utc_now, compiler: Any, **kwargs: Any) -> str:
    return "UTC_TIMESTAMP(6)"


@compiles(utc_now, "sqlite")
def _compile_sqlite(element: utc_now, compiler: Any, **kwargs: Any) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


def read_time(connection: Connection) -> datetime:
    """Return the present time, inside a transaction."""
    return connection.execute(select(utc_now())).scalar_one()


def load_time(ledger: Ledger) -> datetime:
    """Return the present time."""
    time: datetime = ledger.read(select(utc_now()))[0][0]
    return time
