"""The errors of databases: temporary, or met again by the same statement."""

from __future__ import annotations

import sqlite3

import MySQLdb
import psycopg2
import pytest
from sqlalchemy.exc import DBAPIError

from event_hooks.exceptions import (
    HiveRejected,
    HiveUnreachable,
    LedgerRejected,
    LedgerUnreachable,
    LedgerValueRejected,
)
from event_hooks.hive.hook import translate_errors
from event_hooks.ledger.database import translate_errors as translate_ledger_errors

TEMPORARY_MYSQL = [
    *(1040, 1047, 1053, 1158, 1159, 1160, 1161, 1203, 1205, 1213, 1226, 1317, 1412, 1927, 1969, 3024, 4031),
    *(2002, 2003, 2005, 2006, 2012, 2013),
]
LASTING_MYSQL = [
    *(1021, 1030, 1044, 1045, 1046, 1049, 1054, 1064, 1114, 1129, 1130, 1142, 1146, 1194, 1227, 1290, 1305),
    *(1665, 1698, 1836, 2026, 2059, 2061, 9999),
]
VALUES_MYSQL = [1048, 1062, 1153, 1264, 1366, 1406, 2020]

TEMPORARY_SQLSTATES = ["08006", "40001", "40P01", "53100", "53300", "55P03", "57014", "57P01", "57P03"]
LASTING_SQLSTATES = ["25006", "28P01", "3D000", "42501", "42703", "42P01", "58030", "XX001"]

TEMPORARY_LOGINS = [
    "connection refused\n\tIs the server running on that host",
    "FATAL:  the database system is starting up",
    "FATAL:  sorry, too many clients already",
    "could not translate host name to address: Temporary failure in name resolution",
    "server closed the connection unexpectedly",
]
LASTING_LOGINS = [
    'FATAL:  password authentication failed for user "x"',
    'FATAL:  database "x" does not exist',
    'FATAL:  no pg_hba.conf entry for host "10.0.0.1"',
    'FATAL:  permission denied for database "x"',
    'FATAL:  role "x" is not permitted to log in',
    "server does not support SSL, but SSL was required",
    "SSL error: certificate verify failed",
]


def build_mysql_error(code: int) -> DBAPIError:
    """Return the error of SQLAlchemy for an error of a MySQL server."""
    value_codes = {1062: MySQLdb.IntegrityError, 1264: MySQLdb.DataError, 1406: MySQLdb.DataError}
    original = value_codes.get(code, MySQLdb.OperationalError)(code, f"reason {code}")
    return wrap(original, MySQLdb.Error)


def build_postgresql_error(code: str | None, text: str = "reason") -> DBAPIError:
    """Return the error of SQLAlchemy for an error of PostgreSQL; errors of connections have no code."""
    original = psycopg2.OperationalError(text)
    original.__setstate__({"pgcode": code})  # type: ignore[attr-defined]  # the attribute is read-only
    return wrap(original, psycopg2.Error)


def wrap(original: Exception, base: type[Exception]) -> DBAPIError:
    error = DBAPIError.instance("SELECT", {}, original, base)
    assert isinstance(error, DBAPIError)
    return error


def translate_for_hive(error: Exception) -> HiveRejected | HiveUnreachable:
    with pytest.raises((HiveRejected, HiveUnreachable)) as caught, translate_errors("h"):
        raise error
    assert isinstance(caught.value, HiveRejected | HiveUnreachable)
    return caught.value


def translate_for_ledger(error: Exception) -> type[Exception]:
    with pytest.raises(LedgerUnreachable) as caught, translate_ledger_errors("l"):
        raise error
    return caught.type


@pytest.mark.parametrize("code", TEMPORARY_MYSQL)
def test_a_temporary_error_of_mysql_is_an_unavailable_database(code: int) -> None:
    assert isinstance(translate_for_hive(build_mysql_error(code)), HiveUnreachable)
    assert translate_for_ledger(build_mysql_error(code)) is LedgerUnreachable


@pytest.mark.parametrize("code", LASTING_MYSQL)
def test_a_lasting_error_of_mysql_is_a_rejection_with_its_reason(code: int) -> None:
    error = translate_for_hive(build_mysql_error(code))
    assert isinstance(error, HiveRejected)
    assert f"reason {code}" in str(error)
    assert translate_for_ledger(build_mysql_error(code)) is LedgerRejected


@pytest.mark.parametrize("code", VALUES_MYSQL)
def test_a_value_that_mysql_does_not_store_is_rejected(code: int) -> None:
    assert isinstance(translate_for_hive(build_mysql_error(code)), HiveRejected)
    assert translate_for_ledger(build_mysql_error(code)) is LedgerValueRejected


@pytest.mark.parametrize("code", TEMPORARY_SQLSTATES)
def test_a_temporary_error_of_postgresql_is_an_unavailable_ledger(code: str) -> None:
    assert translate_for_ledger(build_postgresql_error(code)) is LedgerUnreachable


@pytest.mark.parametrize("code", LASTING_SQLSTATES)
def test_a_lasting_error_of_postgresql_is_a_rejection(code: str) -> None:
    assert translate_for_ledger(build_postgresql_error(code)) is LedgerRejected


@pytest.mark.parametrize("code", ["22001", "23502", "54000"])
def test_a_value_that_postgresql_does_not_store_is_rejected(code: str) -> None:
    assert translate_for_ledger(build_postgresql_error(code)) is LedgerValueRejected


@pytest.mark.parametrize("text", TEMPORARY_LOGINS)
def test_a_failed_connection_to_postgresql_is_an_unavailable_ledger(text: str) -> None:
    assert translate_for_ledger(build_postgresql_error(None, text)) is LedgerUnreachable


@pytest.mark.parametrize("text", LASTING_LOGINS)
def test_a_rejected_login_to_postgresql_is_a_rejection(text: str) -> None:
    assert translate_for_ledger(build_postgresql_error(None, text)) is LedgerRejected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SQLITE_BUSY", HiveUnreachable),
        ("SQLITE_BUSY_SNAPSHOT", HiveUnreachable),
        ("SQLITE_CANTOPEN", HiveUnreachable),
        ("SQLITE_IOERR_READ", HiveUnreachable),
        ("SQLITE_ERROR", HiveRejected),
        ("SQLITE_FULL", HiveRejected),
        ("SQLITE_NOTADB", HiveRejected),
        ("SQLITE_READONLY", HiveRejected),
    ],
)
def test_errors_of_sqlite_are_temporary_only_if_they_are_known_to_pass(
    name: str, expected: type[Exception]
) -> None:
    original = sqlite3.OperationalError("reason")
    original.sqlite_errorname = name
    assert isinstance(translate_for_hive(wrap(original, sqlite3.Error)), expected)


def test_a_broken_connection_is_temporary_whatever_its_code() -> None:
    error = build_mysql_error(2014)
    error.connection_invalidated = True
    assert isinstance(translate_for_hive(error), HiveUnreachable)


@pytest.mark.parametrize("error", [TimeoutError("no answer"), ConnectionResetError("reset")])
def test_an_error_of_the_network_is_temporary(error: Exception) -> None:
    assert isinstance(translate_for_hive(error), HiveUnreachable)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (1054, "hive 'h' rejected the request: (1054, 'reason 1054'); see the API server log"),
        (1045, "hive 'h' rejected the request: error 1045; see the API server log"),
    ],
)
def test_the_public_reason_of_a_rejection_has_no_address_and_no_user(code: int, message: str) -> None:
    assert translate_for_hive(build_mysql_error(code)).public_message == message
