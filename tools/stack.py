"""
The local stack on the command line.

``up`` starts what is missing, ``down`` ends all of it, ``status`` shows it, and
``run -- COMMAND`` runs a command while the three servers answer. Everything is kept below ``.stack/``.
"""

import argparse
import contextlib
import fcntl
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO
from urllib.parse import quote

import MySQLdb
import psycopg2
import requests

from tools.airflow_services import CHECKOUT, PROGRAMS, AirflowServices
from tools.exceptions import StackError
from tools.kept import Kept
from tools.private_files import private_folder, write_private
from tools.processes import ProcessFolder, end
from tools.servers import Servers
from tools.user_settings import DIGESTS, digests, is_shell_name, user_settings

HIVE = "event_handling"
HIVE_USER = "hive_user"
METADATA = "ensembl_metadata"
METADATA_USER = "metadata_reader"
COMMAND_SECONDS = 60
LOCK_SECONDS = 300
READY_SECONDS = 180


class Stack:
    """
    The servers, a practice hive with its worker, and Airflow.

    :param folder: keeps all data, logs, keys and passwords.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers = Servers(folder)
        self.hive_worker = ProcessFolder(folder / "practice_hive")
        self.env_file = folder / "env"
        self._kept = Kept(folder / "kept.json")
        private_folder(folder)

    def airflow(self) -> AirflowServices:
        """Return Airflow with the servers' present addresses, and with the settings of the user."""
        return self._airflow(user_settings(os.environ))

    def _airflow(self, settings: Mapping[str, str]) -> AirflowServices:
        database = self.servers.postgresql.address._replace(path="/airflow").geturl()
        return AirflowServices(
            self.folder / "airflow", database_url=database, environment={**self.connections, **settings}
        )

    @property
    def connections(self) -> dict[str, str]:
        """The servers as Airflow reaches them, unless the user has set other connections."""
        return {
            "AIRFLOW_CONN_HIVE_EVENT_HANDLING": self._url(HIVE, HIVE_USER, self._hive_password),
            "AIRFLOW_CONN_ENSEMBL_METADATA": self._url(METADATA, METADATA_USER, self._metadata_password),
            "AIRFLOW_CONN_RABBITMQ_REPORTS": self.servers.rabbitmq.url,
        }

    @property
    def _hive_password(self) -> str:
        return str(self._kept.get("hive password", secrets.token_urlsafe))

    @property
    def _metadata_password(self) -> str:
        return str(self._kept.get("metadata password", secrets.token_urlsafe))

    @property
    def metadata_url(self) -> str:
        """The practice ensembl_metadata, for those who write into it."""
        return self._url(METADATA, self.servers.mariadb.user, self.servers.mariadb.password)

    def _url(self, database: str, user: str, password: str) -> str:
        return f"mysql://{quote(user)}:{quote(password, safe='')}@{self.servers.mariadb.place}/{database}"

    def up(self) -> None:
        """Start whatever does not run well; harmless and quick when all does."""
        with self._alone():
            with _step("PostgreSQL, MariaDB, RabbitMQ"):
                started = self.servers.ensure()
            airflow = self.airflow()
            if self.servers.postgresql in started:
                airflow.stop()  # some of its services die of a lost database, but only later
            # Written last, so it is there only if the steps below were all done
            if started or not self.env_file.exists() or airflow.has_other_settings():
                self.env_file.unlink(missing_ok=True)
                self._prepare(airflow)
            if not self.hive_worker.leader():
                with _step("practice hive, practice ensembl_metadata"):
                    self._start_hive()
            with _step("Airflow"):
                airflow.start()
                airflow.wait_ready(READY_SECONDS)
            self.write_env(airflow)
        _print_user_settings()
        print(f"\nAirflow: {airflow.url}  user admin, password {airflow.password}")
        print(f"For airflow commands and curl:  . {os.path.relpath(self.env_file)}")

    def _prepare(self, airflow: AirflowServices) -> None:
        with _step("Airflow's database"):
            airflow.prepare()
        with _step("RabbitMQ's exchange and queues"):
            topology = ProcessFolder(self.folder / "topology")
            topology.run(_module("event_hooks.reports.topology"), airflow.environment, COMMAND_SECONDS)
        # The tables may have gone with the server's data: let the worker make them anew
        self.hive_worker.end()

    def _start_hive(self) -> None:
        mariadb = self.servers.mariadb
        environment = {
            **os.environ,
            "PRACTICE_HIVE_URL": self._url(HIVE, mariadb.user, mariadb.password),
            "PRACTICE_METADATA_URL": self.metadata_url,
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "plugins")]),
        }
        self.hive_worker.end()
        self.hive_worker.run(_module("tests.support.practice_hive", "create"), environment, COMMAND_SECONDS)
        mariadb.grant(HIVE_USER, self._hive_password, HIVE)
        self.hive_worker.run(
            _module("tests.support.practice_metadata", "create"), environment, COMMAND_SECONDS
        )
        mariadb.grant(METADATA_USER, self._metadata_password, METADATA, "SELECT")
        self.hive_worker.start(_module("tests.support.practice_hive", "work"), environment)

    def write_env(self, airflow: AirflowServices) -> None:
        """Write ``.stack/env``: variables for the shell, with all secrets, readable by its owner only."""
        # Not the servers' addresses: a later `make up` of this shell, in another checkout, would obey them
        variables = {
            **airflow.settings,
            "AIRFLOW_URL": airflow.url,
            "ADMIN_PASSWORD": airflow.password,
            "EVENT_URI": f"{airflow.url}/event-hooks",
            "EVENT_HOOKS_USER": "admin",
            "EVENT_HOOKS_PASSWORD": airflow.password,
            DIGESTS: digests(self._airflow({}).settings),
        }
        exported = {name: value for name, value in variables.items() if is_shell_name(name)}
        lines = [f"export {name}={_single_quoted(value)}\n" for name, value in exported.items()]
        lines.append(f'export PATH={_single_quoted(str(PROGRAMS))}:"$PATH"\n')
        write_private(self.env_file, "".join(lines))

    def down(self) -> None:
        """End everything that works below our folder."""
        with self._alone():
            with _step("Airflow, practice hive"):
                count = end([ProcessFolder(self.folder / "airflow"), self.hive_worker])
            with _step("PostgreSQL, MariaDB, RabbitMQ"):
                count += end([server.processes for server in self.servers.all])
                count += end([ProcessFolder(self.folder)])  # and what a killed test left behind
            self.env_file.unlink(missing_ok=True)
        print(f"{count} processes ended")

    def status(self) -> bool:
        """Print what runs and where; tell whether all does."""
        airflow = self.airflow()
        broken = airflow.broken()
        rows = [(x.name, x.answers(), x.processes, x.place) for x in self.servers.all]
        rows.append(("practice hive", bool(self.hive_worker.leader()), self.hive_worker, HIVE))
        rows += [(name, name not in broken, place, airflow.url) for name, place in airflow.places.items()]
        for name, is_up, place, where in rows:
            leader = place.leader()
            print(f"{name:<14} {'up' if is_up else 'DOWN':<5} {leader.pid if leader else '-':>8}  {where}")
        print(f"\nAirflow: {airflow.url}  user admin, password {airflow.password}")
        return all(is_up for _, is_up, _, _ in rows)

    def run(self, command: Sequence[str]) -> int:
        """Run a command while the servers answer, end those that nobody else wants, and give its status."""
        try:
            with self._lock_file("users") as users:
                with self._alone():
                    fcntl.flock(users, fcntl.LOCK_SH)
                    self.servers.ensure()
                return _run({**os.environ, **self.servers.environment()}, command)
        finally:
            with self._alone():
                self._end_unused_servers()

    def _end_unused_servers(self) -> None:
        with self._lock_file("users") as users:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # another `run` still has them; the last one out ends them
        if not self.env_file.exists() and not any(place.leader() for place in self.airflow().places.values()):
            end([server.processes for server in self.servers.all])

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep two commands from starting or ending things at the same time."""
        with self._lock_file("lock") as lock:
            limit = time.monotonic() + LOCK_SECONDS
            while not _locked(lock):
                if time.monotonic() > limit:
                    raise StackError(f"another command is busy here; see: fuser -v {lock.name}")
                time.sleep(0.1)
            yield

    def _lock_file(self, name: str) -> IO[str]:
        return (self.folder / name).open("w")


def _print_user_settings() -> None:
    names = sorted(user_settings(os.environ))
    if names:
        print(f"\nFrom your environment: {', '.join(names)}", end="")
    if missing := [name for name in names if not is_shell_name(name)]:
        print(f"\nNot in .stack/env, as no shell can export the name: {', '.join(missing)}", end="")


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _run(environment: dict[str, str], command: Sequence[str]) -> int:
    child = subprocess.Popen(command, env=environment)
    # Ctrl-C reaches the child by itself; both give it time to clean up before the servers go
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: child.send_signal(number))
    status = child.wait()
    return status if status >= 0 else 128 - status


def _module(*words: str) -> list[str]:
    return [sys.executable, "-m", *words]


def _single_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@contextlib.contextmanager
def _step(what: str) -> Iterator[None]:
    """Print a line with the seconds that a step took."""
    started = time.monotonic()
    print(f"{what:<32}", end="", flush=True)
    try:
        yield
    except BaseException:
        print("failed")
        raise
    print(f"{time.monotonic() - started:6.1f} s")


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tools.stack", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("up", "down", "status"):
        verbs.add_parser(verb)
    verbs.add_parser("run").add_argument("command", nargs="+", help="after --")
    arguments = parser.parse_args()
    stack = Stack(CHECKOUT / ".stack")
    try:
        if arguments.verb == "run":
            return stack.run(arguments.command)
        if arguments.verb == "status":
            return 0 if stack.status() else 1
        stack.up() if arguments.verb == "up" else stack.down()
    except (StackError, MySQLdb.Error, psycopg2.Error, requests.RequestException) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
