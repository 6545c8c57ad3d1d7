"""A connection to a hive that hangs times out after ``hive_timeout``; one to a dead hive fails at once."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError

from event_hooks.exceptions import HiveUnreachable
from event_hooks.hive.connection import resolve_hive
from event_hooks.hive.hook import HiveHook
from tests.integration.hive.conftest import MakeHive
from tools.ports import find_free_port

TIMEOUT = 1
CONN_ID = "hive_behind_relay"

pytestmark = pytest.mark.alone


class Relay:
    """
    A TCP relay to a server, which forwards no bytes while it hangs.

    :param server: host and port.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._passes = threading.Event()
        self._passes.set()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def hang(self) -> None:
        """Accept connections and bytes from now on, and forward nothing."""
        self._passes.clear()

    def close(self) -> None:
        """Close all connections."""
        for connection in (self._listener, *self._sockets):
            with suppress(OSError):  # The other side has closed the connection.
                connection.shutdown(socket.SHUT_RDWR)  # shutdown ends accept and recv, close does not
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            server = socket.create_connection(self._server)
            self._sockets += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=[source, target], daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self._passes.wait()
                target.sendall(data)
        except OSError:
            pass  # One side has closed the connection.


@pytest.fixture
def relay(make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """A relay to a hive, at the connection ``CONN_ID``."""
    url = make_hive("mysql").engine.url
    with closing(Relay((str(url.host), url.port or 3306))) as relay:
        uri = url.set(drivername="mysql", port=relay.port, query={}).render_as_string(hide_password=False)
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", uri)
        monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__HIVE_TIMEOUT", str(TIMEOUT))
        yield relay


@contextmanager
def assert_seconds_between(minimum: float, maximum: float) -> Iterator[None]:
    """Assert that a block takes between these numbers of seconds."""
    start = time.monotonic()
    yield
    assert minimum <= time.monotonic() - start < maximum


def test_connecting_to_a_server_that_hangs_times_out(relay: Relay) -> None:
    relay.hang()
    with (
        assert_seconds_between(TIMEOUT - 0.1, TIMEOUT + 1),
        pytest.raises(HiveUnreachable, match="Lost connection"),
    ):
        HiveHook(CONN_ID).check_analysis("event_dump_dna")


def test_a_statement_on_a_server_that_hangs_times_out(relay: Relay) -> None:
    url, options = resolve_hive(CONN_ID)
    with create_engine(url, connect_args=options).connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
        relay.hang()
        with (
            assert_seconds_between(TIMEOUT - 0.1, TIMEOUT + 1),
            pytest.raises(OperationalError, match="2013"),
        ):
            connection.scalar(text("SELECT 2"))


def test_an_operation_starts_no_statement_after_its_timeout(make_hive: MakeHive) -> None:
    statements = []

    def run_slowly(connection: Connection) -> None:
        for number in range(20):
            connection.execute(text("SELECT SLEEP(0.1)"))
            statements.append(number)

    hook = HiveHook(make_hive("mysql").conn_id, timeout=0.5)
    with assert_seconds_between(0.5, 1.5), pytest.raises(HiveUnreachable, match=r"no answer within 0.5 s"):
        hook._run(run_slowly, "AUTOCOMMIT")
    assert 0 < len(statements) < 8


def test_connecting_to_a_dead_server_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", f"mysql://u:p@127.0.0.1:{find_free_port()}/hive")
    with assert_seconds_between(0, 1), pytest.raises(HiveUnreachable, match="Can't connect"):
        HiveHook(CONN_ID).check_analysis("event_dump_dna")
