"""
The local stack on the command line.

``up`` starts the missing parts, ``down`` stops all parts, ``status`` shows them, and ``run -- COMMAND`` runs
a command while the three servers are available. All files are below ``.stack/``.
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
from tools.private_files import private_folder, write_private
from tools.processes import ProcessFolder, stop_processes
from tools.servers import Servers
from tools.state_file import StateFile
from tools.user_settings import DIGESTS, build_digests, is_shell_name, select_user_settings

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

    :param folder: for all data, logs, keys and passwords; it is created.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers = Servers(folder)
        self.hive_worker = ProcessFolder(folder / "practice_hive")
        self.env_file = folder / "env"
        self._state = StateFile(folder / "kept.json")
        private_folder(folder)

    def airflow(self) -> AirflowServices:
        """Return Airflow with the servers' current URLs and the settings of the user."""
        return self._airflow(select_user_settings(os.environ))

    def _airflow(self, settings: Mapping[str, str]) -> AirflowServices:
        return AirflowServices(
            self.folder / "airflow",
            server_url=self.servers.postgresql.url,
            database="airflow",
            environment={**self.connections, **settings},
        )

    @property
    def connections(self) -> dict[str, str]:
        """The Airflow connections to the servers; those that the user sets replace them."""
        return {
            "AIRFLOW_CONN_HIVE_EVENT_HANDLING": self._url(HIVE, HIVE_USER, self._hive_password),
            "AIRFLOW_CONN_ENSEMBL_METADATA": self._url(METADATA, METADATA_USER, self._metadata_password),
            "AIRFLOW_CONN_RABBITMQ_REPORTS": self.servers.rabbitmq.url,
        }

    @property
    def _hive_password(self) -> str:
        return str(self._state.get_or_create("hive password", secrets.token_urlsafe))

    @property
    def _metadata_password(self) -> str:
        return str(self._state.get_or_create("metadata password", secrets.token_urlsafe))

    @property
    def metadata_url(self) -> str:
        """The URL of the practice ensembl_metadata, with write permission."""
        return self._url(METADATA, self.servers.mariadb.user, self.servers.mariadb.password)

    def _url(self, database: str, user: str, password: str) -> str:
        address = self.servers.mariadb.host_and_port
        return f"mysql://{quote(user)}:{quote(password, safe='')}@{address}/{database}"

    def up(self) -> None:
        """
        Start all parts that are missing or unhealthy. Idempotent, and fast if all are healthy.

        :raises StackError: a part did not start.
        """
        with self._exclusive_lock():
            with _step("PostgreSQL, MariaDB, RabbitMQ"):
                started = self.servers.ensure_running()
            airflow = self.airflow()
            if self.servers.postgresql in started:
                airflow.stop()  # some of its services fail some time after the loss of the database
            # The file is written last: it exists only if all steps below were done
            if started or not self.env_file.exists() or airflow.has_changed_settings():
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
            topology.run(
                _module_command("event_hooks.reports.topology"), airflow.environment, COMMAND_SECONDS
            )
        # The server's data may be new: `up` then creates the tables again and starts the worker
        self.hive_worker.stop()

    def _start_hive(self) -> None:
        mariadb = self.servers.mariadb
        environment = {
            **os.environ,
            "PRACTICE_HIVE_URL": self._url(HIVE, mariadb.user, mariadb.password),
            "PRACTICE_METADATA_URL": self.metadata_url,
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "plugins")]),
        }
        self.hive_worker.stop()
        self.hive_worker.run(
            _module_command("tests.support.practice_hive", "create"), environment, COMMAND_SECONDS
        )
        mariadb.grant(HIVE_USER, self._hive_password, HIVE, "SELECT, INSERT, UPDATE")
        self.hive_worker.run(
            _module_command("tests.support.practice_metadata", "create"), environment, COMMAND_SECONDS
        )
        mariadb.grant(METADATA_USER, self._metadata_password, METADATA, "SELECT")
        self.hive_worker.start(_module_command("tests.support.practice_hive", "work"), environment)

    def write_env(self, airflow: AirflowServices) -> None:
        """Write ``.stack/env``: variables for the shell, with all secrets; only the owner can read it."""
        # Without the servers' URLs: a later `make up` of this shell, in another checkout, would use them
        variables = {
            **airflow.settings,
            "AIRFLOW_URL": airflow.url,
            "ADMIN_PASSWORD": airflow.password,
            "EVENT_URI": f"{airflow.url}/event-hooks",
            "EVENT_HOOKS_USER": "admin",
            "EVENT_HOOKS_PASSWORD": airflow.password,
            DIGESTS: build_digests(self._airflow({}).settings),
        }
        exported = {name: value for name, value in variables.items() if is_shell_name(name)}
        lines = [f"export {name}={_quote(value)}\n" for name, value in exported.items()]
        lines.append(f'export PATH={_quote(str(PROGRAMS))}:"$PATH"\n')
        write_private(self.env_file, "".join(lines))

    def down(self) -> None:
        """
        Stop all processes that were started below the folder.

        :raises StackError: a process cannot be stopped.
        """
        with self._exclusive_lock():
            with _step("Airflow, practice hive"):
                count = stop_processes([ProcessFolder(self.folder / "airflow"), self.hive_worker])
            with _step("PostgreSQL, MariaDB, RabbitMQ"):
                count += stop_processes([server.processes for server in self.servers.all])
                count += stop_processes([ProcessFolder(self.folder)])  # of a test that was killed
            self.env_file.unlink(missing_ok=True)
        print(f"{count} processes ended")

    def status(self) -> bool:
        """Print the state and the address of each part, and return whether all parts run."""
        airflow = self.airflow()
        unhealthy = airflow.list_unhealthy()
        rows = [
            (server.name, server.is_available(), server.processes, server.host_and_port)
            for server in self.servers.all
        ]
        rows.append(("practice hive", bool(self.hive_worker.leader()), self.hive_worker, HIVE))
        rows += [
            (name, name not in unhealthy, folder, airflow.url)
            for name, folder in airflow.process_folders.items()
        ]
        for name, is_up, folder, address in rows:
            leader = folder.leader()
            print(f"{name:<14} {'up' if is_up else 'DOWN':<5} {leader.pid if leader else '-':>8}  {address}")
        print(f"\nAirflow: {airflow.url}  user admin, password {airflow.password}")
        return all(is_up for _, is_up, _, _ in rows)

    def run(self, command: Sequence[str]) -> int:
        """
        Run a command while the servers are available.

        Afterwards the servers are stopped, unless another ``run`` or ``up`` uses them.

        :return: the exit status of the command; 128 + the number of the signal that ended it.
        """
        try:
            with self._open_lock_file("users") as users:
                with self._exclusive_lock():
                    fcntl.flock(users, fcntl.LOCK_SH)
                    self.servers.ensure_running()
                return _run({**os.environ, **self.servers.environment()}, command)
        finally:
            with self._exclusive_lock():
                self._stop_unused_servers()

    def _stop_unused_servers(self) -> None:
        with self._open_lock_file("users") as users:
            if not _try_lock(users):
                return  # another `run` uses them; the last one stops them
        has_services = any(folder.leader() for folder in self.airflow().process_folders.values())
        if not self.env_file.exists() and not has_services:
            stop_processes([server.processes for server in self.servers.all])

    @contextlib.contextmanager
    def _exclusive_lock(self) -> Iterator[None]:
        """
        Prevent that two commands start or stop parts at the same time.

        :raises StackError: another command has the lock for longer than ``LOCK_SECONDS``.
        """
        with self._open_lock_file("lock") as lock:
            deadline = time.monotonic() + LOCK_SECONDS
            while not _try_lock(lock):
                if time.monotonic() > deadline:
                    raise StackError(f"Another command has the lock. To find it: fuser -v {lock.name}")
                time.sleep(0.1)
            yield

    def _open_lock_file(self, name: str) -> IO[str]:
        return (self.folder / name).open("w")


def _print_user_settings() -> None:
    names = sorted(select_user_settings(os.environ))
    if names:
        print(f"\nFrom your environment: {', '.join(names)}", end="")
    if missing := [name for name in names if not is_shell_name(name)]:
        print(f"\nNot in .stack/env, as no shell can export the name: {', '.join(missing)}", end="")


def _try_lock(file: IO[str]) -> bool:
    """Lock a file until it is closed; return whether no other process has the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _run(environment: dict[str, str], command: Sequence[str]) -> int:
    child = subprocess.Popen(command, env=environment)
    # The terminal sends Ctrl-C to the child too. This process waits, so the child can clean up before the
    # servers stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: child.send_signal(number))
    status = child.wait()
    return status if status >= 0 else 128 - status


def _module_command(*words: str) -> list[str]:
    return [sys.executable, "-m", *words]


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@contextlib.contextmanager
def _step(title: str) -> Iterator[None]:
    """Print a line with the title of a step and its duration in seconds."""
    started = time.monotonic()
    print(f"{title:<32}", end="", flush=True)
    try:
        yield
    except BaseException:
        print("failed")
        raise
    print(f"{time.monotonic() - started:6.1f} s")


def main() -> int:
    """Run the command of the command line, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.stack", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    for name in ("up", "down", "status"):
        commands.add_parser(name)
    commands.add_parser("run").add_argument("command", nargs="+", help="after --")
    arguments = parser.parse_args()
    stack = Stack(CHECKOUT / ".stack")
    try:
        if arguments.name == "run":
            return stack.run(arguments.command)
        if arguments.name == "status":
            return 0 if stack.status() else 1
        stack.up() if arguments.name == "up" else stack.down()
    except (StackError, MySQLdb.Error, psycopg2.Error, requests.RequestException) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
