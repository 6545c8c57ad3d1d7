"""A separate RabbitMQ, which these tests may disturb."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.certificates import create_certificate
from tools.ports import find_free_port
from tools.rabbitmq import RabbitMQ


class SeparateBroker(RabbitMQ):
    """A broker for these tests only, with an additional TLS port."""

    variable = "NO_SUCH_VARIABLE"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.tls_port = find_free_port()
        self.certificate = folder / "certificate.pem"

    def prepare_command(self) -> list[str]:
        """Create a certificate, configure the TLS port, and return the command line."""
        command = list(super().prepare_command())
        _, key = create_certificate(self.folder, "certificate", "localhost", "IP:127.0.0.1,DNS:localhost")
        with (self.folder / "rabbitmq.conf").open("a") as file:
            file.write(
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
                f"ssl_options.cacertfile = {self.certificate}\n"
                f"ssl_options.certfile = {self.certificate}\n"
                f"ssl_options.keyfile = {key}\n"
            )
        return command

    def environment(self) -> dict[str, str]:
        """Return the environment of the server, which ``rabbitmqctl`` needs too."""
        if not hasattr(self, "_environment"):
            self._environment = dict(super().environment())
        return self._environment

    def control(self, *arguments: str) -> None:
        """Run ``rabbitmqctl``."""
        path = "/usr/lib/rabbitmq/bin/rabbitmqctl"
        result = subprocess.run(
            [path, *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Suspend the server: its connections stay open, and receive no answer."""
        process = self.processes.leader()
        assert process
        process.suspend()
        try:
            while not _is_stopped(process.pid):  # some threads run on for a moment
                time.sleep(0.01)
            yield
        finally:
            process.resume()


def _is_stopped(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(thread.read_text().rpartition(") ")[2].startswith("T") for thread in threads)


@pytest.fixture(scope="package")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeparateBroker]:
    """The running broker."""
    broker = SeparateBroker(tmp_path_factory.mktemp("rabbitmq"))
    broker.ensure_running()
    yield broker
    broker.processes.stop()
    broker._epmd.stop()
