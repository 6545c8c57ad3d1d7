"""Connections to MySQL and PostgreSQL that ask for TLS are encrypted, or fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from event_hooks.collect_events.hook import MetadataHook
from event_hooks.database_url import make_engine
from event_hooks.exceptions import EventHooksError, HiveRejected, LedgerUnreachable, MetadataRejected
from event_hooks.hive.connection import resolve_hive, resolve_hive_uri
from event_hooks.ledger.database import build_engine
from tests.support.certificates import create_certificate
from tools.mariadb import MariaDB
from tools.postgresql import PostgreSQL
from tools.server import Server

CONN_ID = "tls_test"

SetConnection = Callable[..., None]


class SeparateMariaDB(MariaDB):
    """A server with a certificate, for these tests only."""

    variable = "NO_SUCH_VARIABLE"

    def prepare_command(self) -> list[str]:
        """Create a certificate of the server, and one of another authority, and return the command line."""
        certificate, key = create_certificate(self.folder, "server", "localhost", "DNS:some.host")
        create_certificate(self.folder, "other", "other", "DNS:some.host")
        return [*super().prepare_command(), f"--ssl-cert={certificate}", f"--ssl-key={key}"]


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeparateMariaDB]:
    """A running server with TLS; the host in its certificate is not that of the server."""
    server = SeparateMariaDB(tmp_path_factory.mktemp("mariadb"))
    server.ensure_running()
    yield server
    server.processes.stop()


@pytest.fixture
def set_connection(monkeypatch: pytest.MonkeyPatch) -> SetConnection:
    """A function that defines the connection to a server."""

    def set_connection(server: Server, extra: Any, conn_type: str = "mysql") -> None:
        fields = {"host": server.host, "port": server.port, "login": server.user, "password": server.password}
        connection = {**fields, "conn_type": conn_type, "schema": "mysql", "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))

    return set_connection


@pytest.fixture
def plain_server(mysql_url: str) -> MariaDB:
    """The server of the hives, which has no TLS."""
    return MariaDB(Path("/nonexistent"))


def read_cipher(engine: Engine) -> str:
    with engine.connect() as connection:
        row = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Ssl_cipher'").one()
    engine.dispose()
    return str(row[1])


REQUIRED = [
    {"ssl_mode": "REQUIRED"},
    {"ssl_mode": "verify_ca", "ssl_ca": "server.pem"},
    {"ssl": True},
    {"ssl": "true"},
    {"ssl": {"ca": "server.pem"}},
    {"ssl": '{"ca": "server.pem"}'},
    {"ssl_ca": "server.pem"},
    {"ssl": {}},
]


def use_files(extra: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return an extra with the paths of its files."""
    return dict(json.loads(json.dumps(extra).replace("server.pem", str(folder / "server.pem"))))


@pytest.mark.parametrize("extra", REQUIRED, ids=str)
def test_a_connection_that_asks_for_tls_is_encrypted(
    tls_server: SeparateMariaDB, set_connection: SetConnection, extra: dict[str, Any]
) -> None:
    set_connection(tls_server, use_files(extra, tls_server.folder))
    assert read_cipher(make_engine(resolve_hive(CONN_ID)))
    assert read_cipher(build_engine(CONN_ID))


@pytest.mark.parametrize("extra", REQUIRED, ids=str)
def test_a_connection_that_asks_for_tls_fails_without_it(
    tls_server: SeparateMariaDB, plain_server: MariaDB, set_connection: SetConnection, extra: dict[str, Any]
) -> None:
    set_connection(plain_server, use_files(extra, tls_server.folder))
    for engine in (make_engine(resolve_hive(CONN_ID)), build_engine(CONN_ID)):
        with pytest.raises(OperationalError, match="the connection asks for TLS|SSL is required"):
            engine.connect()
    with (
        pytest.raises(MetadataRejected, match="TLS|SSL is required"),
        MetadataHook(CONN_ID).connect_read_only(),
    ):
        pass


@pytest.mark.parametrize("extra", [{}, {"ssl_mode": "PREFERRED"}, {"ssl": "false"}, {"ssl_mode": "disabled"}])
def test_a_connection_that_does_not_require_tls_works_without_it(
    plain_server: MariaDB, set_connection: SetConnection, extra: dict[str, Any]
) -> None:
    set_connection(plain_server, extra)
    assert read_cipher(make_engine(resolve_hive(CONN_ID))) == ""


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"ssl_ca": "other.pem"}, "certificate"),
        ({"ssl_mode": "VERIFY_CA"}, "certificate"),
        ({"ssl_mode": "VERIFY_IDENTITY", "ssl_ca": "server.pem"}, "certificate|name|host"),
        ({"ssl_ca": "missing.pem"}, "certificate|No such file"),
    ],
    ids=str,
)
def test_the_certificate_of_the_server_is_verified(
    tls_server: SeparateMariaDB, set_connection: SetConnection, extra: dict[str, str], reason: str
) -> None:
    paths = {
        name: str(tls_server.folder / value) if name == "ssl_ca" else value for name, value in extra.items()
    }
    set_connection(tls_server, paths)
    with pytest.raises(OperationalError, match=reason):
        make_engine(resolve_hive(CONN_ID)).connect()


def test_the_query_of_a_hive_uri_asks_for_tls(plain_server: MariaDB, tls_server: SeparateMariaDB) -> None:
    plain, encrypted = (
        make_engine(resolve_hive_uri(f"{server.url}mysql?ssl_mode=REQUIRED"))
        for server in (plain_server, tls_server)
    )
    assert read_cipher(encrypted)
    with pytest.raises(OperationalError, match="asks for TLS"):
        plain.connect()


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ({"sslmode": "require"}, "sslmode"),
        ({"ssl_verify_cert": True}, "ssl_verify_cert"),
        ({"use_tls": True}, "use_tls"),
        ({"ssl": {"check_hostname": True}}, "ssl.check_hostname"),
        ({"ssl": "maybe"}, "ssl"),
        ({"ssl": "{broken"}, "ssl"),
        ({"ssl_mode": "ALWAYS"}, "ssl_mode"),
    ],
    ids=str,
)
def test_an_unknown_extra_about_tls_is_named(
    plain_server: MariaDB, set_connection: SetConnection, extra: dict[str, Any], name: str
) -> None:
    set_connection(plain_server, extra)
    with pytest.raises(HiveRejected, match=f"extra {name}: "):
        resolve_hive(CONN_ID)
    with pytest.raises(LedgerUnreachable, match=f"extra {name}: "):
        build_engine(CONN_ID)


def test_the_extra_of_a_postgresql_ledger_asks_for_tls(
    plain_server: MariaDB, set_connection: SetConnection
) -> None:
    set_connection(plain_server, {"ssl_mode": "REQUIRED"}, "postgres")
    with pytest.raises(LedgerUnreachable, match="extra ssl_mode: unknown; .*sslmode"):
        build_engine(CONN_ID)


@pytest.mark.parametrize("extra", [{"sslmode": "require"}, {"sslrootcert": "system"}], ids=str)
def test_a_postgresql_ledger_that_asks_for_tls_fails_without_it(
    set_connection: SetConnection, extra: dict[str, str]
) -> None:
    set_connection(PostgreSQL(Path("/nonexistent")), extra, "postgres")
    with pytest.raises(OperationalError, match="SSL"):
        build_engine(CONN_ID).connect()


@pytest.mark.parametrize("password", ["12/hunter2", "p/hunter2", "p#hunter2"])
def test_an_ambiguous_address_of_a_connection_is_rejected_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    address = f"mysql://user:{password}@127.0.0.1/db"
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", address)
    for resolve in (
        resolve_hive,
        build_engine,
        lambda conn_id: MetadataHook(conn_id).connect_read_only().__enter__(),
    ):
        with pytest.raises(EventHooksError) as caught:
            resolve(CONN_ID)
        assert "percent-encode" in str(caught.value)
        assert "hunter2" not in str(caught.value)
