"""
Measure, and keep the figures in ``docs/performance.md``: ``python -m tools.bench [hive|ledger|api|…]``.

Without a name, all of them. Each section of the file is of the last run that measured it.
"""

from __future__ import annotations

import re
import subprocess
import sys

from tools.airflow_services import CHECKOUT
from tools.bench import api, collect, hive, ledger, runs
from tools.bench.room import Measured, machine, table

FILE = CHECKOUT / "docs" / "performance.md"

BENCHES = {
    "hive": ("A hive with 10,000 jobs", hive.measure),
    "api": ("Events over HTTP", api.measure),
    "runs": ("Events from the request to the report", runs.measure),
    "collect": ("A year of events of ensembl_metadata", collect.measure),
    "ledger": ("A ledger with 1,000,000 events", ledger.measure),
}

HEAD = "# Performance\n\nWhat `make bench` measured last; what did not meet its bar is **bold**.\n"


def main() -> int:
    """Measure what is named, and tell by the exit status whether all bars are met."""
    names = sys.argv[1:] or list(BENCHES)
    measured: list[Measured] = []
    for name in names:
        title, measure = BENCHES[name]
        mine = []
        for one in measure():
            print(f"{one.value:10.2f} {one.unit:16} {one.step}", flush=True)
            mine.append(one)
        where = machine("PostgreSQL, MariaDB, RabbitMQ on it")
        _keep(title, f"By `make bench-{name}` of {_commit()}. {where}.\n\n{table(mine)}\n")
        measured += mine
    print(f"\n{table(measured)}\n\nKept in {FILE}")
    return 0 if all(one.is_good for one in measured) else 1


def _keep(title: str, text: str) -> None:
    """Put a section into the file, in the order of ``BENCHES``."""
    kept = FILE.read_text() if FILE.exists() else ""
    sections = dict(re.findall(r"^## (.*)\n\n((?:(?!## ).*\n?)*)", kept, re.MULTILINE))
    sections[title] = text
    titles = [known for known, _ in BENCHES.values() if known in sections]
    FILE.write_text("\n".join([HEAD, *(f"## {one}\n\n{sections[one].rstrip()}\n" for one in titles)]))


def _commit() -> str:
    """Name what was measured; the file of figures itself may have changed since."""
    commit = _git("describe", "--always").stdout.strip()
    changed = _git("diff", "--quiet", "HEAD", "--", ".", f":!{FILE.relative_to(CHECKOUT)}").returncode
    return f"{commit}{'-dirty' if changed else ''}" if commit else "no commit"


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(CHECKOUT), *words], capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
