"""
Companions of the tests' Airflow: workers of practice hives, a mail server and a StatsD server.

They are one process, which outlives the pytest process that started it:

    python -m tests.support.companions FOLDER

The folder has the description of an :class:`~tests.support.installation.Installation`. Mails go into
``FOLDER/mails`` (a Maildir), StatsD lines of event hooks into ``FOLDER/statsd``.
"""

from __future__ import annotations

import json
import signal
import socketserver
import sys
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox

from tests.support.lookups import HIVES
from tests.support.practice_hive.worker import Worker


class Statsd(socketserver.UDPServer):
    """
    A StatsD server that appends the metrics of event hooks to a file.

    :param port: on 127.0.0.1.
    """

    def __init__(self, port: int, file: Path) -> None:
        super().__init__(("127.0.0.1", port), socketserver.BaseRequestHandler)
        self.file = file.open("a", buffering=1)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Write the lines of one datagram, without Airflow's own metrics."""
        lines = [line for line in request[0].decode().splitlines() if ".event_hooks." in line]
        self.file.writelines(f"{line}\n" for line in lines)


def read_mails(folder: Path) -> Iterator[EmailMessage]:
    """Iterate over the mails that were received so far."""
    for file in (folder / "mails" / "new").glob("*"):
        yield BytesParser(policy=default).parsebytes(file.read_bytes())


def read_metrics(folder: Path) -> list[str]:
    """Return the StatsD lines of event hooks that were received so far."""
    file = folder / "statsd"
    return file.read_text().splitlines() if file.exists() else []


def main() -> None:
    """Run all companions until SIGTERM."""
    folder = Path(sys.argv[1])
    settings = json.loads((folder / "installation.json").read_text())
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    urls = [url for hive, url in settings["hives"].items() if HIVES[hive].has_worker]
    workers = [Worker(url, threads=2, poll_interval=0.3, retry_seconds=float("inf")) for url in urls]
    threads = [threading.Thread(target=worker.run, args=[stop]) for worker in workers]
    mail = Controller(Mailbox(folder / "mails"), hostname="127.0.0.1", port=settings["smtp_port"])
    mail.start()
    with Statsd(settings["statsd_port"], folder / "statsd") as statsd:
        threads.append(threading.Thread(target=statsd.serve_forever))
        for thread in threads:
            thread.start()
        stop.wait()
        statsd.shutdown()
        for thread in threads:
            thread.join()
    mail.stop()


if __name__ == "__main__":
    main()
