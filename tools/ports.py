"""TCP ports for the servers of this checkout."""

import random
import socket

# Below Linux's ephemeral range: no outgoing connection can take such a port while its server is down.
PORTS = range(20_000, 32_000)


def find_free_port(host: str = "127.0.0.1") -> int:
    """Return a random port that is free at the moment."""
    return next(port for port in random.sample(PORTS, len(PORTS)) if is_port_free(host, port))


def is_port_free(host: str, port: int) -> bool:
    """Return whether a server could listen on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
