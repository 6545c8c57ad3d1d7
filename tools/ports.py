"""Ports of our own."""

import random
import socket

# Below Linux's ephemeral range: an outgoing connection of anybody cannot take one while its server is down.
OURS = range(20_000, 32_000)


def free_port(host: str = "127.0.0.1") -> int:
    """Give a port that nothing uses now."""
    return next(port for port in random.sample(OURS, len(OURS)) if is_free(host, port))


def is_free(host: str, port: int) -> bool:
    """Tell whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
