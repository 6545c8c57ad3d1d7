"""
PostgreSQL, MariaDB and RabbitMQ.

The URL of each server comes from the environment (``POSTGRES_URL``, ``MYSQL_URL``, ``RABBITMQ_URL``). If the
variable is unset, the server runs on this machine with a random password; the server's folder has the
password and the data.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.mariadb import MariaDB
from tools.postgresql import PostgreSQL
from tools.rabbitmq import RabbitMQ
from tools.server import Server


class Servers:
    """
    The three servers.

    :param folder: each server has a subfolder.
    """

    def __init__(self, folder: Path) -> None:
        self.postgresql = PostgreSQL(folder / "postgresql")
        self.mariadb = MariaDB(folder / "mariadb")
        self.rabbitmq = RabbitMQ(folder / "rabbitmq")
        self.all: tuple[Server, ...] = (self.postgresql, self.mariadb, self.rabbitmq)

    def ensure_running(self) -> list[Server]:
        """
        Start the servers that are not available.

        :return: the servers that were started.
        :raises StackError: as of :meth:`Server.ensure_running`.
        """
        with ThreadPoolExecutor(len(self.all)) as pool:
            started = pool.map(Server.ensure_running, self.all)
        return [server for server, is_new in zip(self.all, list(started), strict=True) if is_new]

    def environment(self) -> dict[str, str]:
        """Return the environment variables with the servers' URLs."""
        return {server.variable: server.url for server in self.all}
