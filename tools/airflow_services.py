"""One installation of Airflow: its folder, its databases and its services."""

import hashlib
import json
import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg2
import requests
from cryptography.fernet import Fernet

from tools.airflow_api import AirflowApi
from tools.airflow_databases import Database, read_versions
from tools.ports import find_free_port, is_port_free
from tools.private_files import write_private
from tools.processes import ProcessFolder, stop_processes
from tools.state_file import StateFile
from tools.user_settings import is_user_setting

CHECKOUT = Path(__file__).resolve().parents[1]
PROGRAMS = Path(sys.executable).parent  # of this virtual environment, not resolved to the base installation
SERVICES: Mapping[str, Sequence[str]] = {
    name: [name] for name in ("api-server", "scheduler", "dag-processor", "triggerer")
}
"""``{name: arguments of the command airflow}`` of an installation on one machine."""

PORTS = {"api-server": "api", "scheduler": "worker log", "triggerer": "trigger log"}
"""``{service: purpose of the port on which it listens}``."""

MIGRATE_SECONDS = 180
STARTING_SECONDS = 60  # a younger service that was never ready may still be starting


class AirflowServices:
    """
    Airflow with the DAGs and plugins of this checkout, on PostgreSQL, with tasks on this machine.

    The ledger is a separate database on the same server, ``<database>_ledger``.

    :param folder: AIRFLOW_HOME, with the logs, keys and passwords.
    :param server_url: ``postgresql://…`` of PostgreSQL's administrator; it creates databases and roles.
    :param database: name of Airflow's database.
    :param environment: further variables of the services, such as connections; they replace ``settings``.
    :param services: as ``SERVICES``, which it includes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        server_url: str,
        database: str,
        environment: Mapping[str, str],
        services: Mapping[str, Sequence[str]] = SERVICES,
    ) -> None:
        self.folder = folder
        self._server_url = server_url
        self._database = database
        self._extra = dict(environment)
        self._state = StateFile(folder / "kept.json")
        self.services = services
        self._process_folders = {name: ProcessFolder(folder / name) for name in services}

    @property
    def url(self) -> str:
        """The URL of the web page, without ``/api/v2``."""
        return f"http://127.0.0.1:{self._port('api')}"

    @property
    def password(self) -> str:
        """The password of the user ``admin``."""
        return str(self._state.get_or_create("password", lambda: secrets.token_urlsafe(12)))

    @property
    def _api(self) -> AirflowApi:
        return AirflowApi(self.url)

    def _port(self, purpose: str) -> int:
        return int(self._state.get_or_create_local(f"{purpose} port", find_free_port))

    def _secret(self, name: str) -> str:
        return str(self._state.get_or_create(name, lambda: secrets.token_urlsafe(64)))

    @property
    def _fernet_key(self) -> str:
        return str(self._state.get_or_create("fernet key", lambda: Fernet.generate_key().decode()))

    @property
    def _passwords_file(self) -> Path:
        return self.folder / "passwords.json"

    @property
    def settings(self) -> dict[str, str]:
        """The variables that make an ``airflow`` command belong to this installation."""
        return {
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(CHECKOUT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(CHECKOUT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "event_hooks.runtime.executor.RevokingLocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "8",
            "AIRFLOW__CORE__FERNET_KEY": self._fernet_key,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,event_hooks:user",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._passwords_file),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.databases[0].url.replace("://", "+psycopg2://", 1),
            "AIRFLOW_CONN_EVENT_LEDGER": self.ledger_url,
            "AIRFLOW_CONN_EVENT_SERVER": self.url.replace("//", f"//event_hooks:{self._secret('events')}@"),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self._port("api")),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": self._secret("api secret"),
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secret("jwt secret"),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE": "2000",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",  # up to this time, an ended task keeps its slot
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.folder / "logs"),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(self._port("worker log")),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(self._port("trigger log")),
            "PYTHONPATH": str(CHECKOUT / "plugins"),
            "NO_PROXY": "127.0.0.1,localhost",
            **self._extra,
        }

    @property
    def databases(self) -> Sequence[Database]:
        """Airflow's database and that of the ledger."""
        names = (self._database, f"{self._database}_ledger")
        return [Database(self._server_url, name, self._secret(f"password of {name}")) for name in names]

    @property
    def ledger_url(self) -> str:
        """The URL of the ledger's database."""
        return self.databases[1].url

    @property
    def environment(self) -> dict[str, str]:
        """
        The complete environment of any ``airflow`` command, without settings of another installation.

        ``EVENT_URI`` is such a setting: in ``.stack/env`` it is the client's address.
        """
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name != "EVENT_URI" and not name.startswith("AIRFLOW_") and not is_user_setting(name)
        }
        path = os.pathsep.join([str(PROGRAMS), os.environ.get("PATH", os.defpath)])
        return {**inherited, "PATH": path, **self.settings}

    def prepare(self) -> None:
        """
        Write the password file, create the databases and migrate their tables. Idempotent.

        :raises StackError: a migration failed or took longer than ``MIGRATE_SECONDS``.
        """
        self._write_passwords()
        for database in self.databases:
            database.create()
        self._run("ledger", sys.executable, "-m", "event_hooks.ledger", "migrate")
        if not self.is_prepared():
            self._run("migration", str(PROGRAMS / "airflow"), "db", "migrate")
            self._state.store("migrated", read_versions(self.databases[0].url))

    def _run(self, subfolder: str, *command: str) -> None:
        ProcessFolder(self.folder / subfolder).run(command, self.environment, MIGRATE_SECONDS)

    def is_prepared(self) -> bool:
        """Return whether :meth:`prepare` has migrated the databases with this version of Airflow."""
        try:
            return bool(self._state.get_or_create("migrated", list) == read_versions(self.databases[0].url))
        except psycopg2.OperationalError:
            return False  # the database does not exist

    def _write_passwords(self) -> None:
        passwords = {"admin": self.password, "event_hooks": self._secret("events")}
        write_private(self._passwords_file, json.dumps(passwords) + "\n")

    def copy_databases(self, template: "AirflowServices") -> None:
        """
        Prepare this installation by copies of another one's databases; faster than :meth:`prepare`.

        A database that exists is not changed.

        :param template: a prepared installation on the same server, whose services do not run.
        """
        self._write_passwords()
        for database, original in zip(self.databases, template.databases, strict=True):
            database.create(original.name)
        self._state.store("migrated", read_versions(template.databases[0].url))

    def start(self) -> list[str]:
        """
        Start each unhealthy service, after its remaining processes are killed.

        If the settings have changed, all services are stopped and started.

        :return: the names of the services that were started.
        """
        names = self.list_unhealthy()
        for name in names:
            self.kill(name)
            if name in PORTS and not is_port_free("127.0.0.1", self._port(PORTS[name])):
                self._state.replace_local(f"{PORTS[name]} port", find_free_port)
        if self.has_changed_settings():
            self.stop()
            names = list(self.services)
        self._state.store("started with", self._settings_digest())
        for name in names:
            self.start_service(name)
        return names

    def has_changed_settings(self) -> bool:
        """Return whether the settings have changed since the services were started."""
        return bool(self._state.get_or_create("started with", str) != self._settings_digest())

    def _settings_digest(self) -> str:
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()

    def start_service(self, name: str, variables: Mapping[str, str] | None = None) -> None:
        """Start one of ``services``, after its remaining processes are killed, with further variables."""
        self.kill(name)
        command = [str(PROGRAMS / "airflow"), *self.services[name]]
        self._process_folders[name].start(command, {**self.environment, **(variables or {})})

    def kill(self, name: str) -> None:
        """Send SIGKILL to all processes of a service, as a crash would end them."""
        self._process_folders[name].kill()

    def stop(self, seconds: float = 15) -> int:
        """
        Stop all services.

        :param seconds: SIGKILL follows after this time.
        :return: the number of processes that were stopped.
        """
        return stop_processes(self._process_folders.values(), seconds=seconds)

    @property
    def process_folders(self) -> Mapping[str, ProcessFolder]:
        """``{service: folder with its processes and its log}``."""
        return self._process_folders

    def list_unhealthy(self) -> list[str]:
        """Return the services that have ended or are unhealthy, without those that are still starting."""
        health = self._api.load_health()
        return [
            name
            for name in self.services
            if not self._is_healthy(name, health) and not self._is_starting(name)
        ]

    def _is_starting(self, name: str) -> bool:
        leader = self._process_folders[name].leader()
        if leader is None or leader.pid in self._state.get_or_create("ready", list):
            return False
        return time.time() - leader.create_time() < STARTING_SECONDS

    def _is_healthy(self, name: str, health: Mapping[str, Any]) -> bool:
        leader = self._process_folders[name].leader()
        if leader is None:
            return False
        if name == "api-server":
            return bool(health)
        if not health or name not in SERVICES:
            return True  # Airflow reports no health of it
        component = health[name.replace("-", "_")]
        heartbeat = component[f"latest_{name.replace('-', '_')}_heartbeat"]
        if heartbeat is None:
            return False
        # A dead service counts as healthy for 30 seconds: the heartbeat must be of the running process
        is_current = datetime.fromisoformat(heartbeat).timestamp() > leader.create_time()
        return bool(component["status"] == "healthy" and is_current)

    def log_in(self, user: str = "admin") -> str:
        """
        Return the token for ``Authorization: Bearer …``.

        :raises requests.RequestException: the API server is unavailable, or it rejects the login.
        """
        passwords = json.loads(self._passwords_file.read_text())
        return self._api.log_in(user, passwords[user])

    def wait_ready(self, seconds: float = 180) -> None:
        """
        Wait until all services are healthy and every file in ``dags/`` has its DAG.

        :raises StackError: a service ended, a DAG file does not load, or the timeout was reached.
        """
        started = time.time()
        deadline = time.monotonic() + seconds
        while missing := self._list_missing(started):
            for name, folder in self._process_folders.items():
                if not folder.leader():
                    raise folder.build_error(f"Airflow's {name} ended during its start")
            if time.monotonic() > deadline:
                folder = self._process_folders.get(missing[0], self._process_folders["dag-processor"])
                raise folder.build_error(
                    f"Airflow is not ready after {seconds:.0f} s; missing: {', '.join(missing)}"
                )
            time.sleep(0.25)
        leaders = [folder.leader() for folder in self._process_folders.values()]
        self._state.store("ready", [leader.pid for leader in leaders if leader])

    def _list_missing(self, started: float) -> list[str]:
        """Return the services that are not healthy yet or, if all are, the DAGs that are not listed yet."""
        health = self._api.load_health()
        if missing := [name for name in self.services if not health or not self._is_healthy(name, health)]:
            return missing
        dag_ids = [path.stem for path in (CHECKOUT / "dags").glob("*.py")]
        try:
            return [f"DAG {name}" for name in self._api.list_missing_dags(self.log_in(), dag_ids, started)]
        except requests.RequestException:
            return ["api-server"]
