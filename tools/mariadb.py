"""MariaDB on this machine."""

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import MySQLdb

from tools.private_files import write_private
from tools.server import LOGIN_SECONDS, START_SECONDS, Server, program


class MariaDB(Server):
    """Keeps the hives and ensembl_metadata."""

    name = "MariaDB"
    variable = "MYSQL_URL"
    default_port = 3306
    own_url = "mysql://root:{password}@127.0.0.1:{port}/"

    def answers(self) -> bool:
        """Tell whether the server lets us in."""
        try:
            self.connect().close()
        except MySQLdb.OperationalError:
            return False
        return True

    def connect(self) -> "MySQLdb.connections.Connection":
        """Log in."""
        return MySQLdb.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            connect_timeout=LOGIN_SECONDS,
            read_timeout=LOGIN_SECONDS,
        )

    def create(self) -> None:
        """Make the data folder, through a link: as root, mariadb-install-db fails on a path with a space."""
        self.data.mkdir(mode=0o700)
        with TemporaryDirectory() as folder:
            link = Path(folder, "data")
            link.symlink_to(self.data)
            self.processes.run(
                [
                    program("mariadb-install-db"),
                    "--no-defaults",
                    f"--datadir={link}",
                    *self._user(),
                    "--skip-test-db",
                ],
                self.environment(),
                START_SECONDS,
            )

    def command(self) -> Sequence[str]:
        """Give the command line."""
        accounts = self.folder / "accounts.sql"
        write_private(accounts, self._accounts())
        settings = {
            "datadir": self.data,
            "bind-address": self.host,
            "port": self.port,
            "socket": "mariadb.sock",  # in the data folder; a long checkout path would exceed 107 bytes
            "init-file": accounts,
            "innodb-flush-log-at-trx-commit": 2,
            "innodb-buffer-pool-size": "64M",
            "max-connections": 200,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [program("mariadbd"), "--no-defaults", *self._user(), "--skip-name-resolve", *options]

    def _user(self) -> list[str]:
        return [] if os.geteuid() else ["--user=root"]  # it wants root to say so

    def _accounts(self) -> str:
        """Give the SQL, one statement a line, that lets us in and the accounts of the installation out."""
        user, password = _quoted(self.user), _quoted(self.password)
        return (
            f"CREATE OR REPLACE USER {user}@'%' IDENTIFIED BY {password};\n"
            f"GRANT ALL ON *.* TO {user}@'%' WITH GRANT OPTION;\n"
            "DELETE FROM mysql.global_priv WHERE Host <> '%' AND User IN ('', 'root', 'mysql');\n"
            "FLUSH PRIVILEGES;\n"
        )

    def grant(
        self,
        user: str,
        password: str,
        database: str,
        rights: str = "SELECT, INSERT, UPDATE, DELETE",
    ) -> None:
        """
        Give a user rights in one database, and make the user if need be.

        :raises MySQLdb.OperationalError: the user exists, with another password.
        """
        account = f"{_quoted(user)}@'%'"
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM mysql.user WHERE user = %s AND host = '%%'", (user,))
            if not cursor.fetchone():
                cursor.execute(f"CREATE USER {account} IDENTIFIED BY {_quoted(password)}")
            cursor.execute(f"GRANT {rights} ON `{database}`.* TO {account}")
        MySQLdb.connect(host=self.host, port=self.port, user=user, password=password).close()


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
