"""PostgreSQL on this machine, which refuses to be root."""

import os
import pwd
import signal
from collections.abc import Sequence
from pathlib import Path

import psycopg2

from tools.exceptions import StackError
from tools.private_files import write_private
from tools.server import LOGIN_SECONDS, START_SECONDS, Server, program
from tools.sessions import is_pid_in_use


class PostgreSQL(Server):
    """Keeps Airflow's own database."""

    name = "PostgreSQL"
    variable = "POSTGRES_URL"
    default_port = 5432
    own_url = "postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
    stop_signal = signal.SIGINT  # "fast": does not wait for clients to leave

    def answers(self) -> bool:
        """Tell whether the server lets us in."""
        try:
            psycopg2.connect(self.url, connect_timeout=LOGIN_SECONDS).close()
        except psycopg2.OperationalError:
            return False
        return True

    def create(self) -> None:
        """Make the data folder."""
        self.data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            postgres = _account("postgres")
            os.chown(self.data, postgres.pw_uid, postgres.pw_gid)
        password_file = self.folder / "password"
        write_private(password_file, self.password)
        options = ["--auth=scram-sha-256", f"--username={self.user}", f"--pwfile={password_file}"]
        encoding = ["--encoding=UTF8", "--locale=C.UTF-8"]
        self.processes.run(
            [
                *_not_as_root(),
                program("initdb", *_postgresql_folders()),
                f"--pgdata={self.data}",
                *options,
                *encoding,
            ],
            self.environment(),
            START_SECONDS,
        )
        password_file.unlink()

    def command(self) -> Sequence[str]:
        """Give the command line."""
        self._remove_stale_lock()
        settings = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "synchronous_commit": "off",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [*_not_as_root(), program("postgres", *_postgresql_folders()), "-D", str(self.data), *options]

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


def _postgresql_folders() -> list[str]:
    """Give Debian's folders, newest version first; they are not on the search path."""
    return [
        str(p) for p in sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: -float(p.parent.name))
    ]


def _not_as_root() -> list[str]:
    """Give the command prefix under which PostgreSQL agrees to run: it refuses to be root."""
    if os.geteuid():
        return []
    who = ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
    # The one right it keeps is to enter the checkout, which may lie in a folder of root's alone
    rights = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [program("setpriv"), *who, *rights, "--"]


def _account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise StackError(
            f"there is no user {name!r}, and PostgreSQL does not run as root: make setup"
        ) from None
