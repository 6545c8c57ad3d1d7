"""PostgreSQL on this machine; it does not run as root."""

import os
import pwd
import signal
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

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
        encoding = ["--encoding=UTF8", "--locale=C.UTF-8"]
        with TemporaryDirectory() as folder:
            password_file = Path(folder, "password")
            write_private(password_file, self.password)
            if os.geteuid() == 0:
                postgres = _find_account("postgres")
                for path in (self.data, folder, password_file):
                    os.chown(path, postgres.pw_uid, postgres.pw_gid)
            options = ["--auth=scram-sha-256", f"--username={self.user}", f"--pwfile={password_file}"]
            command = self._build_command("initdb", *options, *encoding)
            self.processes.run(command, self.environment(), START_SECONDS)

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
        return self._build_command("postgres", *options)

    def _build_command(self, program: str, *options: str) -> list[str]:
        """
        Return the command line of a program that uses the data folder; root runs it as user ``postgres``.

        That user may be unable to enter the checkout. So the shell opens the data folder as root, and the
        program reaches it by the inherited file descriptor. It must be able to enter its working directory.
        """
        path = find_program(program, *_list_program_folders())
        if os.geteuid():
            return [path, "-D", str(self.data), *options]
        user = ["--reuid=postgres", "--regid=postgres", "--clear-groups", "--inh-caps=-all", "--no-new-privs"]
        script = 'cd / && exec 9<"$0" && exec "$@"'
        command = [find_program("setpriv"), *user, "--", path, "-D", "/proc/self/fd/9", *options]
        return ["bash", "-c", script, str(self.data), *command]

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


def _find_account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise StackError(
            f"There is no user {name!r}, and PostgreSQL does not run as root. Run: make setup"
        ) from None
