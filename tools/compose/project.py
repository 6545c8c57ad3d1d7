"""The services of docker-compose.yaml, from a copy of the checkout."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests

from tools.airflow_api import AirflowApi
from tools.airflow_services import CHECKOUT
from tools.compose.engine import Engine
from tools.exceptions import StackError
from tools.runs import Runs

START_SECONDS = 900.0
REQUEST_SECONDS = 300.0
"""Seconds for which a request is repeated while a server is unavailable."""


class Project:
    """
    A copy of the checkout, without files that git does not know, and its containers.

    :param engine: a started engine.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder

    def copy_checkout(self) -> None:
        """Copy the files of the git index, and create ``.env``; remove an earlier copy and its containers."""
        if self.folder.exists():
            self.remove()
        shutil.rmtree(self.folder, ignore_errors=True)
        copy = ["git", "checkout-index", "--all", f"--prefix={self.folder}/"]
        subprocess.run(copy, cwd=CHECKOUT, check=True, umask=0o022)
        subprocess.run(["python3", "tools/compose_env.py"], cwd=self.folder, check=True, capture_output=True)

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables of ``.env``."""
        return dict(re.findall(r"^(\w+)='(.*)'$", (self.folder / ".env").read_text(), re.MULTILINE))

    def compose(self, *arguments: str, standard_input: str | None = None) -> str:
        """
        Run a command of ``docker compose``, and return its output.

        :raises StackError: it failed; with its last lines.
        """
        command = ["docker", "compose", "--project-name", "event-hooks", *arguments]
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=self.engine.environment,
            input=standard_input,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            lines = (result.stdout + result.stderr).splitlines()[-30:]
            raise StackError("\n".join([f"docker compose {' '.join(arguments)} failed:", *lines]))
        return result.stdout

    def start(self) -> float:
        """
        Start all services as the README says, and return the seconds until all are healthy.

        :raises TimeoutError: they are not within ``START_SECONDS``; with their states.
        """
        started = time.monotonic()
        self.compose("up", "--build", "--detach")
        Runs.wait_until(self._is_healthy, START_SECONDS, self.list_states)
        return time.monotonic() - started

    def remove(self) -> None:
        """Remove all containers and volumes."""
        self.compose("down", "--volumes", "--timeout", "60")

    def list_containers(self) -> list[dict[str, Any]]:
        """Return the containers of all services, by name."""
        lines = self.compose("ps", "--format", "json").splitlines()
        return sorted((json.loads(line) for line in lines), key=lambda container: str(container["Name"]))

    def list_states(self) -> str:
        """Return a line with the state of each container."""
        return ", ".join(f"{item['Name']}: {item['Status']}" for item in self.list_containers())

    def _is_healthy(self) -> bool:
        return all(container["Health"] == "healthy" for container in self.list_containers())

    def kill(self, name: str) -> None:
        """Send SIGKILL to the first process of a container; ``docker kill`` would prevent its restart."""
        pid = int(self.engine.docker("inspect", "--format", "{{.State.Pid}}", name))
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def run_python(self, script: Path) -> Any:
        """Run a script in a container of the service ``set-up``, and return the JSON that it prints last."""
        output = self.compose("run", "--rm", "-T", "set-up", "python -", standard_input=script.read_text())
        return json.loads(output.splitlines()[-1])

    def run_in(self, service: str, script: Path) -> str:
        """Run a Python script in the first running container of a service, and return its output."""
        return self.compose("exec", "-T", service, "python", "-", standard_input=script.read_text())

    def list_pids(self, name: str) -> Sequence[int]:
        """Return the pids of a container's processes on this machine, that of the first process first."""
        lines = self.engine.docker("top", name, "-eo", "pid").splitlines()
        return [int(line) for line in lines[1:]]

    def is_internal(self, network: str) -> bool:
        """Return whether a network has no connection to others."""
        return self.engine.docker("network", "inspect", "--format", "{{.Internal}}", network) == "true"

    def check_ledger(self) -> str:
        """Return what ``check-ledger`` prints last: the number of events and faults."""
        command = "python -m event_hooks.maintain_ledger.consistency"
        return self.compose("run", "--rm", "-T", "set-up", command).splitlines()[-1]

    def run_curl_of_readme(self) -> dict[str, Any]:
        """Run the commands with curl of the README, and return the answer."""
        commands = read_curl_commands(self.folder / "README.md").replace(". .stack/env", ". ./.env")
        result = subprocess.run(
            ["bash", "-ec", commands], cwd=self.folder, capture_output=True, text=True, check=True
        )
        return dict(json.loads(result.stdout))

    def request(self, method: str, path: str, **options: Any) -> Any:
        """
        Send a request to the API server, repeatedly while a server is unavailable, and return the JSON.

        :raises StackError: it is not successful within ``REQUEST_SECONDS``; with the last error.
        """
        address, deadline = self.variables["AIRFLOW_URL"], time.monotonic() + REQUEST_SECONDS
        while True:
            try:
                token = AirflowApi(address).log_in("admin", self.variables["ADMIN_PASSWORD"])
                headers = {"Authorization": f"Bearer {token}"}
                response = requests.request(method, address + path, headers=headers, timeout=30, **options)
                response.raise_for_status()
                return response.json()
            except requests.RequestException as error:
                if time.monotonic() > deadline:
                    raise StackError(f"{method} {path}: {error}") from error
                time.sleep(1)

    def find_secrets_in_logs(self) -> Sequence[str]:
        """Return the names of passwords and keys that are in the output of a container."""
        logs = self.compose("logs", "--no-color")
        secrets = {name: value for name, value in self.variables.items() if name != "AIRFLOW_URL"}
        return [name for name, value in secrets.items() if value in logs]


def read_curl_commands(document: Path) -> str:
    """Return the first block of shell commands that uses curl."""
    blocks = document.read_text().split("```bash\n")[1:]
    return next(commands for block in blocks if "curl" in (commands := block.partition("```")[0]))
