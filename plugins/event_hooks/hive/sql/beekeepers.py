"""Whether the beekeeper of a hive is alive, according to the hive's table ``beekeeper``."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeGuard

from sqlalchemy import Connection, Row, Select, func, inspect, literal_column, or_, select

from event_hooks.hive.sql.tables import beekeeper


class BeekeeperStatus(NamedTuple):
    """Whether the beekeeper of a hive is alive."""

    is_alive: bool | None
    """
    ``None`` if it is unknown, as in hives before eHive 2.5, which have no record of beekeepers. A blocked one
    is not alive: it only waits until it is unblocked, and neither starts workers nor detects their end.
    """

    text: str
    is_blocked: bool = False


def load_beekeeper_status(connection: Connection) -> BeekeeperStatus:
    """Return whether a beekeeper of the hive is alive according to the hive, and a description of it."""
    if not inspect(connection).has_table(beekeeper.name):
        return BeekeeperStatus(None, "this hive has no record of its beekeepers")
    keeper = load_beekeeper(connection)
    if is_working(keeper):
        text = f"beekeeper {keeper.beekeeper_id} on {keeper.meadow_host} has not recorded its end"
        return BeekeeperStatus(True, text)
    return BeekeeperStatus(False, describe_absence(keeper), is_blocked(keeper))


def load_beekeeper(connection: Connection) -> Row[Any] | None:
    """
    Return the newest beekeeper that works; without one, the newest blocked one, or the newest of all.

    eHive records no other sign of life of a beekeeper.
    """
    newest_id = select(func.max(beekeeper.c.beekeeper_id)).scalar_subquery()
    condition = or_(beekeeper.c.cause_of_death.is_(None), beekeeper.c.beekeeper_id == newest_id)
    # All columns, because a hive before eHive 2.6 lacks is_blocked.
    statement: Select[Any] = select(literal_column("beekeeper.*")).select_from(beekeeper).where(condition)
    rows = connection.execute(statement).all()
    return max(rows, key=lambda row: (is_working(row), is_blocked(row), row.beekeeper_id), default=None)


def is_blocked(keeper: Row[Any] | None) -> bool:
    """Return whether a beekeeper is alive, and a user, or a job, has blocked it."""
    if keeper is None or keeper.cause_of_death is not None:
        return False
    return bool(keeper._mapping.get("is_blocked"))


def is_working(keeper: Row[Any] | None) -> TypeGuard[Row[Any]]:
    """Return whether a beekeeper is alive and not blocked."""
    return keeper is not None and keeper.cause_of_death is None and not is_blocked(keeper)


def describe_absence(keeper: Row[Any] | None) -> str:
    """Return a clause that no beekeeper works on the hive, with the last one."""
    if keeper is None:
        return "no beekeeper has ever worked on this hive"
    name = f"{keeper.beekeeper_id} on {keeper.meadow_host}"
    if is_blocked(keeper):
        return f"beekeeper {name} is blocked (beekeeper.is_blocked = 1), so it starts no workers"
    return f"no beekeeper is alive (the last, {name}, ended with {keeper.cause_of_death})"


def build_advice(keeper: Row[Any] | None, url: str) -> str:
    """
    Return the command after which a beekeeper works on the hive.

    :param url: a placeholder for the hive's URL.
    """
    if keeper is None or not is_blocked(keeper):
        return f"beekeeper.pl -url {url} -loop_until FOREVER"
    unblock = f"UPDATE beekeeper SET is_blocked = 0 WHERE beekeeper_id = {keeper.beekeeper_id}"
    return f'find out in log_message why it is blocked, then db_cmd.pl -url {url} -sql "{unblock}"'
