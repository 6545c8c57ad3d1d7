"""PostgreSQL on this machine; it does not run as root."""

import os
import pwd
import signal
from collections.abc import Sequence
from pathlib import Path

import psycopg2

from tools.exceptions import StackError
from tools.private_files import write_private
from tools.server import LOGIN_SECONDS, START_SECONDS, Server, find_program
from tools.sessions import is_pid_in_use


class PostgreSQL(Server):
    """The server of Airflow's database and of the ledger."""

    name = "PostgreSQL"
    variable = "POSTGRES_URL"
    default_port = 5432
    own_url = "postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
    stop_signal = signal.SIGINT  # "fast shutdown": does not wait until clients disconnect

    def is_available(self) -> bool:
        """Return whether a login with ``url`` succeeds."""
        try:
            psycopg2.connect(self.url, connect_timeout=LOGIN_SECONDS).close()
        except psycopg2.OperationalError:
            return False
        return True

    def create_data(self) -> None:
        """
        Create the data folder; as root, for the user ``postgres``.

        :raises StackError: there is no such user, or initdb failed.
        """
        self.data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            postgres = _find_account("postgres")
            os.chown(self.data, postgres.pw_uid, postgres.pw_gid)
        password_file = self.folder / "password"
        write_private(password_file, self.password)
        options = ["--auth=scram-sha-256", f"--username={self.user}", f"--pwfile={password_file}"]
        encoding = ["--encoding=UTF8", "--locale=C.UTF-8"]
        self.processes.run(
            [
                *_drop_root(),
                find_program("initdb", *_list_program_folders()),
                f"--pgdata={self.data}",
                *options,
                *encoding,
            ],
            self.environment(),
            START_SECONDS,
        )
        password_file.unlink()

    def prepare_command(self) -> Sequence[str]:
        """Return the command line."""
        self._remove_stale_lock()
        settings = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "synchronous_commit": "off",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        program = find_program("postgres", *_list_program_folders())
        return [*_drop_root(), program, "-D", str(self.data), *options]

    def _remove_stale_lock(self) -> None:
        """
        Remove the lock file of an earlier server if it is empty, or if its pid is in use.

        Our server has ended, so the pid belongs to another program, or to a zombie. PostgreSQL would take it
        for the server. If the pid is free, PostgreSQL itself checks whether processes of that server still
        use the data.
        """
        lock = self.data / "postmaster.pid"
        if not lock.exists():
            return
        words = lock.read_text().split()
        if not words or is_pid_in_use(abs(int(words[0]))):  # negative for a server in single-user mode
            lock.unlink()


def _list_program_folders() -> list[str]:
    """Return Debian's folders of PostgreSQL, newest version first; they are not in ``PATH``."""
    return [
        str(p) for p in sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: -float(p.parent.name))
    ]


def _drop_root() -> list[str]:
    """Return a command prefix that changes root to the user ``postgres``; PostgreSQL does not run as root."""
    if os.geteuid():
        return []
    user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
    # This capability lets the user enter the checkout, which may be in a folder that only root can read
    capabilities = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [find_program("setpriv"), *user, *capabilities, "--"]


def _find_account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise StackError(
            f"There is no user {name!r}, and PostgreSQL does not run as root. Run: make setup"
        ) from None
