"""A server that the stack needs: it is started here unless one is available already."""

import hashlib
import os
import secrets
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import SplitResult, unquote, urlsplit

from tools.exceptions import StackError
from tools.ports import find_free_port, is_port_free
from tools.private_files import private_folder, write_private
from tools.processes import ProcessFolder
from tools.state_file import StateFile

LOGIN_SECONDS = 5
START_SECONDS = 90


class Server(ABC):
    """
    One server that the stack needs.

    :cvar variable: environment variable with the URL of a server that the user provides.
    :cvar own_url: URL of a server that the stack starts, with the fields ``password`` and ``port``.
    :param folder: for the data, the log and the URL of a server that the stack starts.
    """

    name: ClassVar[str]
    variable: ClassVar[str]
    default_port: ClassVar[int]
    own_url: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.processes = ProcessFolder(folder, self.stop_signal)
        self._state = StateFile(folder / "address.json")

    @property
    def url(self) -> str:
        """The URL with user and password; the server may not run yet."""
        url = os.environ.get(self.variable) or str(self._state.get_or_create_local("url", self._generate_url))
        # MySQL's client takes "localhost" for a socket file, not for an address
        return url.replace("@localhost", "@127.0.0.1", 1)

    def _generate_url(self) -> str:
        password = self._state.get_or_create("password", secrets.token_urlsafe)
        return self.own_url.format(password=password, port=find_free_port())

    @property
    def address(self) -> SplitResult:
        """The parts of ``url``."""
        return urlsplit(self.url)

    @property
    def host(self) -> str:
        """The host of ``url``."""
        return self.address.hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        """The port of ``url``, or the server's default port."""
        return self.address.port or self.default_port

    @property
    def user(self) -> str:
        """The user of ``url``, decoded."""
        return unquote(self.address.username or "")

    @property
    def password(self) -> str:
        """The password of ``url``, decoded."""
        return unquote(self.address.password or "")

    @property
    def host_and_port(self) -> str:
        """``host:port``, without secrets."""
        return f"{self.host}:{self.port}"

    @property
    def _credentials_file(self) -> Path:
        """
        The digest of the credentials for which the data folder was created.

        It is written after the first login. Without it, the data folder may be incomplete.
        """
        return self.folder / "complete"

    @property
    def _credentials_digest(self) -> str:
        return hashlib.sha256(f"{self.user}:{self.password}".encode()).hexdigest()

    @abstractmethod
    def is_available(self) -> bool:
        """Return whether a login with ``url`` succeeds."""

    def ensure_running(self) -> bool:
        """
        Start the server unless it is available.

        :return: whether it was started.
        :raises StackError: the server is on another machine, has other credentials, or did not start.
        """
        if self.is_available():
            return False
        if self.host not in ("127.0.0.1", "::1"):
            raise StackError(
                f"{self.variable} names {self.host_and_port}, and a login to {self.name} fails there. "
                f"Start it there, or unset {self.variable} to have one on this machine."
            )
        if self._credentials_file.exists() and self._credentials_file.read_text() != self._credentials_digest:
            raise StackError(
                f"{self.variable} has another user or password than the {self.name} of this checkout. "
                f"Correct it, unset it, or remove {self.folder} to create a new one."
            )
        self.processes.stop()
        self._ensure_free_port()
        self._start()
        return True

    def _ensure_free_port(self) -> None:
        if is_port_free(self.host, self.port):
            return
        if os.environ.get(self.variable):
            raise StackError(
                f"Port {self.port} of {self.variable} is in use by a program that rejects the login of "
                f"{self.user!r}. Stop it, correct the address, or unset {self.variable}."
            )
        self._state.replace_local("url", self._generate_url)

    def _start(self) -> None:
        private_folder(self.folder)
        if not self._credentials_file.exists():
            shutil.rmtree(self.data, ignore_errors=True)
            self.create_data()
        self.processes.start(self.prepare_command(), self.environment())
        self.processes.wait(self.is_available, START_SECONDS, f"{self.name} at {self.host_and_port}")
        write_private(self._credentials_file, self._credentials_digest)

    @abstractmethod
    def create_data(self) -> None:
        """Create the data folder."""

    @abstractmethod
    def prepare_command(self) -> Sequence[str]:
        """
        Write the files that the server reads, and return its command line.

        The command stays in the foreground. It has no secrets: every user can read a process list.
        """

    def environment(self) -> Mapping[str, str]:
        """Return the environment variables of the server."""
        return os.environ


def find_program(name: str, *folders: str) -> str:
    """
    Return the path of a program.

    :param folders: searched before ``PATH``.
    :raises StackError: it is not installed.
    """
    path = os.pathsep.join([*folders, os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    if program := shutil.which(name, path=path):
        return program
    raise StackError(
        f"{name} is not installed: run `make setup`, or use docker compose (docker-compose.yaml)."
    )
