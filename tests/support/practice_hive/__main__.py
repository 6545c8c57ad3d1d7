"""
Make a practice hive, or work in one until SIGTERM.

    PRACTICE_HIVE_URL=mysql://user:password@host:3306/hive python -m tests.support.practice_hive create
    PRACTICE_HIVE_URL=sqlite:////tmp/hive.sqlite           python -m tests.support.practice_hive work

Prefer the environment variable PRACTICE_HIVE_URL to the argument: everybody can read a process list.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading

from tests.support.practice_hive.database import mask_passwords
from tests.support.practice_hive.tables import create
from tests.support.practice_hive.worker import Worker

log = logging.getLogger("practice_hive")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(
        prog="python -m tests.support.practice_hive",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True)
    making = commands.add_parser("create", help="make the database and its tables; keep what exists")
    making.add_argument("--analysis", action="append", metavar="NAME", help="entry analysis; may be repeated")
    making.add_argument("--variant", choices=("stock", "docs"), default="stock", help="kind of job table")
    making.add_argument("--triggers", action="store_true", help="let triggers keep the counters")
    making.add_argument("--schema-version", type=int, default=97, help="what hive_meta claims (default: 97)")
    working = commands.add_parser("work", help="do jobs until SIGTERM, one line on stdout for each")
    working.add_argument("--threads", type=int, default=4, help="jobs side by side (default: 4)")
    for command in (making, working):
        command.add_argument("url", nargs="?", metavar="URL", help="better in PRACTICE_HIVE_URL")
    return top


def main() -> None:
    """Do what the command line says."""
    arguments = parser().parse_args()
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s")
    url = arguments.url or os.environ.get("PRACTICE_HIVE_URL")
    if not url:
        parser().error("no URL: set PRACTICE_HIVE_URL")
    if arguments.command == "create":
        analyses = {"analyses": arguments.analysis} if arguments.analysis else {}
        create(
            url,
            variant=arguments.variant,
            triggers=arguments.triggers,
            schema_version=arguments.schema_version,
            **analyses,
        )
        log.info("Made %s", mask_passwords(url))
    else:
        work(url, arguments.threads)


def work(url: str, threads: int) -> None:
    """Work until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    log.info("Working in %s", mask_passwords(url))
    Worker(url, threads=threads, patience=float("inf")).run(stop)
    log.info("Stopped")


if __name__ == "__main__":
    main()
