"""A RabbitMQ of these tests' own, which they may hurt."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.ports import free_port
from tools.rabbitmq import RabbitMQ


class OwnBroker(RabbitMQ):
    """A broker that only these tests use, which also speaks TLS."""

    variable = "NO_SUCH_VARIABLE"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.tls_port = free_port()
        self.certificate = folder / "certificate.pem"
        self._key = folder / "key.pem"

    def command(self) -> list[str]:
        """Give the command line, with a certificate in the configuration."""
        command = list(super().command())
        asked = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *asked]
            + ["-keyout", str(self._key), "-out", str(self.certificate)],
            check=True,
            capture_output=True,
        )
        with (self.folder / "rabbitmq.conf").open("a") as file:
            file.write(
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
                f"ssl_options.cacertfile = {self.certificate}\n"
                f"ssl_options.certfile = {self.certificate}\n"
                f"ssl_options.keyfile = {self._key}\n"
            )
        return command

    def environment(self) -> dict[str, str]:
        """Give the environment, once and the same for server and tool."""
        if not hasattr(self, "_environment"):
            self._environment = dict(super().environment())
        return self._environment

    def control(self, *words: str) -> None:
        """Run ``rabbitmqctl``."""
        path = "/usr/lib/rabbitmq/bin/rabbitmqctl"
        said = subprocess.run(
            [path, *words], env=self.environment(), capture_output=True, text=True, timeout=60, check=False
        )
        assert said.returncode == 0, said.stdout + said.stderr


@pytest.fixture(scope="package")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBroker]:
    """It, running."""
    broker = OwnBroker(tmp_path_factory.mktemp("rabbitmq"))
    broker.ensure()
    yield broker
    broker.processes.end()
    broker._epmd.end()
