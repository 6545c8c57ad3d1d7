"""The RabbitMQ server of the development tools."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tools.ports import find_free_port, is_port_free
from tools.rabbitmq import RabbitMQ
from tools.server import find_program


def test_erlang_starts_no_name_server_that_outlives_the_broker(tmp_path: Path) -> None:
    port = find_free_port()
    environment = {**RabbitMQ(tmp_path).environment(), "ERL_EPMD_PORT": str(port), "HOME": str(tmp_path)}
    node = [find_program("erl"), "-sname", "event_hooks_test@localhost", "-noinput", "-s", "erlang", "halt"]
    try:
        result = subprocess.run(
            node,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # Erlang 25 writes the error to stderr, Erlang 27 to stdout.
            text=True,
            timeout=30,
            check=False,
        )
        assert "register/listen error" in result.stdout
        assert is_port_free("127.0.0.1", port)
    finally:
        subprocess.run(
            [find_program("epmd"), "-kill"], env=environment, capture_output=True, timeout=30, check=False
        )
