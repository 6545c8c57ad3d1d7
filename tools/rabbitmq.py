"""RabbitMQ on this machine; it does not collide with another broker here."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pika
import pika.exceptions
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from tools.ports import find_free_port, is_port_free
from tools.private_files import write_private
from tools.processes import ProcessFolder
from tools.server import LOGIN_SECONDS, Server, find_program

logging.getLogger("pika").setLevel(logging.CRITICAL)  # it logs a traceback for each failed connection


class RabbitMQ(Server):
    """The broker of the reports."""

    name = "RabbitMQ"
    variable = "RABBITMQ_URL"
    default_port = 5672
    own_url = "amqp://event_hooks:{password}@127.0.0.1:{port}/%2F"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        # Erlang's name server; its folder is below the broker's, so stopping the broker stops it as well
        self._epmd = ProcessFolder(folder / "epmd")
        self._epmd_port = 0

    def is_available(self) -> bool:
        """Return whether a login with ``url`` succeeds."""
        parameters = pika.URLParameters(self.url)
        parameters.socket_timeout = parameters.stack_timeout = LOGIN_SECONDS
        parameters.blocked_connection_timeout = LOGIN_SECONDS
        try:
            pika.BlockingConnection(parameters).close()
        except (pika.exceptions.AMQPError, AMQPConnectorException, OSError):
            return False
        return True

    def create_data(self) -> None:
        """Create the data folder; the broker fills it."""
        self.data.mkdir(mode=0o700)

    def prepare_command(self) -> Sequence[str]:
        """Write the configuration, start the name server of Erlang, and return the command line."""
        (self.folder / "enabled_plugins").write_text("[].\n")
        write_private(
            self.folder / "rabbitmq.conf",
            f"listeners.tcp.1 = {self.host}:{self.port}\n"
            f"default_user = {self.user}\n"
            f"default_pass = {self.password}\n"
            "log.console = true\n"
            "log.file = false\n",
        )
        self._epmd_port = find_free_port()
        self._epmd.start([find_program("epmd")], self.environment())
        self._epmd.wait(lambda: not is_port_free("127.0.0.1", self._epmd_port), 10, "epmd")
        # Not Debian's wrapper of the same name, which switches to the system's own user
        return [find_program("rabbitmq-server", "/usr/lib/rabbitmq/bin")]

    def environment(self) -> Mapping[str, str]:
        """Return the environment of the server, with its own paths, ports and name."""
        return {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("RABBITMQ_", "ERL_"))
            },
            "HOME": str(self.folder),  # of the Erlang cookie
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            # If epmd is missing, Erlang starts one in a session of its own, which would outlive `make down`
            "ERL_AFLAGS": "-start_epmd false",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.data),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_NODENAME": "event_hooks@localhost",
            "RABBITMQ_DIST_PORT": str(find_free_port()),
            # RabbitMQ's script replaces itself by the broker, and does not stay its parent
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
