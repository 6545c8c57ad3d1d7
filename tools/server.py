"""A server that the stack needs: used where it answers, started where it does not."""

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
from tools.kept import Kept
from tools.ports import free_port, is_free
from tools.private_files import private_folder, write_private
from tools.processes import ProcessFolder

LOGIN_SECONDS = 5
START_SECONDS = 90


class Server(ABC):
    """
    One server that the stack needs.

    :param folder: where ours keeps its data, its log and its address.
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
        self._kept = Kept(folder / "address.json")

    @property
    def url(self) -> str:
        """Where the server is, or will be; with user and password."""
        url = os.environ.get(self.variable) or str(self._kept.local("url", self._new_url))
        # MySQL's client takes "localhost" for a socket file, not for an address
        return url.replace("@localhost", "@127.0.0.1", 1)

    def _new_url(self) -> str:
        password = self._kept.get("password", secrets.token_urlsafe)
        return self.own_url.format(password=password, port=free_port())

    @property
    def address(self) -> SplitResult:
        """The parts of ``url``."""
        return urlsplit(self.url)

    @property
    def host(self) -> str:
        """The machine."""
        return self.address.hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        """The port."""
        return self.address.port or self.default_port

    @property
    def user(self) -> str:
        """Who logs in."""
        return unquote(self.address.username or "")

    @property
    def password(self) -> str:
        """How they prove it."""
        return unquote(self.address.password or "")

    @property
    def place(self) -> str:
        """The address without its secrets."""
        return f"{self.host}:{self.port}"

    @property
    def _complete(self) -> Path:
        """Says for whom the data was made; absent until a first login, as the data may be half made."""
        return self.folder / "complete"

    @property
    def _credentials(self) -> str:
        return hashlib.sha256(f"{self.user}:{self.password}".encode()).hexdigest()

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether the server lets us in."""

    def ensure(self) -> bool:
        """
        See to it that the server answers.

        :return: True if it had to be started.
        :raises StackError: it cannot be started here, or did not come up.
        """
        if self.answers():
            return False
        if self.host not in ("127.0.0.1", "::1"):
            raise StackError(
                f"{self.variable} names {self.place}, where no {self.name} lets us in. "
                f"Start it there, or unset {self.variable} to have one on this machine."
            )
        if self._complete.exists() and self._complete.read_text() != self._credentials:
            raise StackError(
                f"{self.variable} has another user or password than the {self.name} that this checkout made. "
                f"Correct it, unset it, or remove {self.folder} to begin anew."
            )
        self.processes.end()
        self._take_port()
        self._start()
        return True

    def _take_port(self) -> None:
        if is_free(self.host, self.port):
            return
        if os.environ.get(self.variable):
            raise StackError(
                f"port {self.port} of {self.variable} is in use, by something that does not let us in as "
                f"{self.user!r}. End it, correct the address, or unset {self.variable}."
            )
        self._kept.renew("url", self._new_url)

    def _start(self) -> None:
        private_folder(self.folder)
        if not self._complete.exists():
            shutil.rmtree(self.data, ignore_errors=True)
            self.create()
        self.processes.start(self.command(), self.environment())
        self.processes.wait(self.answers, START_SECONDS, f"{self.name} at {self.place}")
        write_private(self._complete, self._credentials)

    @abstractmethod
    def create(self) -> None:
        """Make the data folder."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Give the command line, in the foreground and without secrets; write the files that it reads."""

    def environment(self) -> Mapping[str, str]:
        """Give the environment of the server."""
        return os.environ


def program(name: str, *folders: str) -> str:
    """
    Find a program, at first in these folders.

    :raises StackError: it is not installed.
    """
    path = os.pathsep.join([*folders, os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    if found := shutil.which(name, path=path):
        return found
    raise StackError(
        f"{name} is not installed: run `make setup`, or use docker compose (docker-compose.yaml)."
    )
