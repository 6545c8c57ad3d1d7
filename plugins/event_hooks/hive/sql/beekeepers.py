"""Whether the beekeeper of a hive is alive, according to the hive's table ``beekeeper``."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, case, inspect, select

from event_hooks.hive.sql.tables import beekeeper


def load_beekeeper_status(connection: Connection) -> tuple[bool | None, str]:
    """
    Return whether a beekeeper of the hive is alive according to the hive, and a description of it.

    :return: the first value is ``None`` for hives before eHive 2.5, which have no record of beekeepers.
    """
    if not inspect(connection).has_table(beekeeper.name):
        return None, "this hive has no record of its beekeepers"
    keeper = load_beekeeper(connection)
    if keeper is None or keeper.cause_of_death is not None:
        return False, describe_absence(keeper)
    return True, f"beekeeper {keeper.beekeeper_id} on {keeper.meadow_host} has not recorded its end"


def load_beekeeper(connection: Connection) -> Row[Any] | None:
    """
    Return the newest beekeeper without a recorded end; if there is no such beekeeper, the newest one.

    eHive records no other sign of life of a beekeeper.
    """
    is_alive = case((beekeeper.c.cause_of_death.is_(None), 1), else_=0)
    rows = select(beekeeper).order_by(is_alive.desc(), beekeeper.c.beekeeper_id.desc()).limit(1)
    return connection.execute(rows).first()


def describe_absence(keeper: Row[Any] | None) -> str:
    """Return a clause that no beekeeper is alive, with the end of the last one."""
    if keeper is None:
        return "no beekeeper has ever worked on this hive"
    last = f"{keeper.beekeeper_id} on {keeper.meadow_host}, ended with {keeper.cause_of_death}"
    return f"no beekeeper is alive (the last, {last})"
