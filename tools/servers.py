"""
PostgreSQL, MariaDB and RabbitMQ.

The address of each comes from the environment (``POSTGRES_URL``, ``MYSQL_URL``, ``RABBITMQ_URL``) or, if
unset, is one of our own with a random password, kept in the server's folder together with its data.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.mariadb import MariaDB
from tools.postgresql import PostgreSQL
from tools.rabbitmq import RabbitMQ
from tools.server import Server


class Servers:
    """
    The three together.

    :param folder: each has its own below.
    """

    def __init__(self, folder: Path) -> None:
        self.postgresql = PostgreSQL(folder / "postgresql")
        self.mariadb = MariaDB(folder / "mariadb")
        self.rabbitmq = RabbitMQ(folder / "rabbitmq")
        self.all: tuple[Server, ...] = (self.postgresql, self.mariadb, self.rabbitmq)

    def ensure(self) -> list[Server]:
        """See to it that all answer, and give those that had to be started."""
        with ThreadPoolExecutor(len(self.all)) as pool:
            started = pool.map(Server.ensure, self.all)
        return [server for server, new in zip(self.all, list(started), strict=True) if new]

    def environment(self) -> dict[str, str]:
        """Give the variables that lead to them."""
        return {server.variable: server.url for server in self.all}
