"""
Create a practice hive, or do the jobs of one until SIGTERM.

    PRACTICE_HIVE_URL=mysql://user:password@host:3306/hive python -m tests.support.practice_hive create
    PRACTICE_HIVE_URL=sqlite:////tmp/hive.sqlite           python -m tests.support.practice_hive work

Prefer the environment variable PRACTICE_HIVE_URL to the argument: every user can read a process list.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading

from tests.support.practice_hive import tables
from tests.support.practice_hive.database import mask_passwords
from tests.support.practice_hive.worker import Worker

log = logging.getLogger("practice_hive")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.practice_hive",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="create the database and its tables; keep existing ones")
    create.add_argument("--analysis", action="append", metavar="NAME", help="entry analysis; may be repeated")
    create.add_argument("--variant", choices=("stock", "docs"), default="stock", help="kind of job table")
    create.add_argument("--triggers", action="store_true", help="counters are updated by triggers")
    create.add_argument("--schema-version", type=int, default=97, help="value in hive_meta (default: 97)")
    work = commands.add_parser("work", help="do jobs until SIGTERM, and print a line for each")
    work.add_argument("--threads", type=int, default=4, help="number of concurrent jobs (default: 4)")
    for command in (create, work):
        command.add_argument("url", nargs="?", metavar="URL", help="PRACTICE_HIVE_URL is safer")
    return parser


def main() -> None:
    """Run the command of the command line."""
    parser = build_parser()
    arguments = parser.parse_args()
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s")
    url = arguments.url or os.environ.get("PRACTICE_HIVE_URL")
    if not url:
        parser.error("no URL: set PRACTICE_HIVE_URL")
    if arguments.command == "create":
        analyses = {"analyses": arguments.analysis} if arguments.analysis else {}
        tables.create(
            url,
            variant=arguments.variant,
            triggers=arguments.triggers,
            schema_version=arguments.schema_version,
            **analyses,
        )
        log.info("Created %s", mask_passwords(url))
    else:
        work(url, arguments.threads)


def work(url: str, threads: int) -> None:
    """Do jobs until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    log.info("Working in %s", mask_passwords(url))
    worker = Worker(url, threads=threads, retry_seconds=float("inf"))
    worker.release_lost_jobs()
    worker.run(stop)
    log.info("Stopped")


if __name__ == "__main__":
    main()
