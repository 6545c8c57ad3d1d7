"""MariaDB on this machine."""

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import MySQLdb

from tools.private_files import write_private
from tools.server import LOGIN_SECONDS, START_SECONDS, Server, find_program


class MariaDB(Server):
    """The server of the hives and of ensembl_metadata."""

    name = "MariaDB"
    variable = "MYSQL_URL"
    default_port = 3306
    own_url = "mysql://root:{password}@127.0.0.1:{port}/"

    def is_available(self) -> bool:
        """Return whether a login with ``url`` succeeds."""
        try:
            self.connect().close()
        except MySQLdb.OperationalError:
            return False
        return True

    def connect(self) -> "MySQLdb.connections.Connection":
        """
        Log in and return the connection.

        :raises MySQLdb.OperationalError: the server is unreachable, or it rejects the login.
        """
        return MySQLdb.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            connect_timeout=LOGIN_SECONDS,
            read_timeout=LOGIN_SECONDS,
        )

    def create_data(self) -> None:
        """Create the data folder, by a link: as root, mariadb-install-db fails on a path with a space."""
        self.data.mkdir(mode=0o700)
        with TemporaryDirectory() as folder:
            link = Path(folder, "data")
            link.symlink_to(self.data)
            self.processes.run(
                [
                    find_program("mariadb-install-db"),
                    "--no-defaults",
                    f"--datadir={link}",
                    *_user_options(),
                    "--skip-test-db",
                ],
                {**self.environment(), "TMPDIR": folder},
                START_SECONDS,
            )

    def prepare_command(self) -> Sequence[str]:
        """
        Write the file with the accounts, and return the command line.

        The server has a folder of its own for temporary tables, because on its start MariaDB deletes those of
        all servers that share the folder.
        """
        accounts = self.folder / "accounts.sql"
        write_private(accounts, self._build_accounts_sql())
        temporary = self.folder / "tmp"
        temporary.mkdir(mode=0o700, exist_ok=True)
        settings = {
            "datadir": self.data,
            "tmpdir": temporary,
            "bind-address": self.host,
            "port": self.port,
            "socket": "mariadb.sock",  # in the data folder; a long checkout path would exceed 107 bytes
            "init-file": accounts,
            "innodb-flush-log-at-trx-commit": 2,
            "innodb-buffer-pool-size": "64M",
            "max-connections": 200,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [find_program("mariadbd"), "--no-defaults", *_user_options(), "--skip-name-resolve", *options]

    def _build_accounts_sql(self) -> str:
        """
        Return the SQL that creates the user of ``url`` and removes the installation's default accounts.

        MariaDB's ``init-file`` expects one statement per line.
        """
        user, password = _quote(self.user), _quote(self.password)
        return (
            f"CREATE OR REPLACE USER {user}@'%' IDENTIFIED BY {password};\n"
            f"GRANT ALL ON *.* TO {user}@'%' WITH GRANT OPTION;\n"
            "DELETE FROM mysql.global_priv WHERE Host <> '%' AND User IN ('', 'root', 'mysql');\n"
            "FLUSH PRIVILEGES;\n"
        )

    def grant(self, user: str, password: str, database: str, privileges: str) -> None:
        """
        Grant a user these privileges only, in one database; create the user if it is missing. Idempotent.

        :raises MySQLdb.OperationalError: the user exists, with another password.
        """
        account = f"{_quote(user)}@'%'"
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM mysql.user WHERE user = %s AND host = '%%'", (user,))
            if not cursor.fetchone():
                cursor.execute(f"CREATE USER {account} IDENTIFIED BY {_quote(password)}")
            cursor.execute(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {account}")
            cursor.execute(f"GRANT {privileges} ON `{database}`.* TO {account}")
        MySQLdb.connect(host=self.host, port=self.port, user=user, password=password).close()


def _user_options() -> list[str]:
    return [] if os.geteuid() else ["--user=root"]  # MariaDB runs as root only with this option


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
