"""
Run benchmarks, and write the results to ``docs/performance.md``.

``python -m tools.bench [hive|api|workers|runs|waiting|collect|ledger …]`` runs the named benchmarks, by
default all. Each section of the file has the results of the last run of its benchmark.
"""

from __future__ import annotations

import re
import subprocess
import sys

from tools.airflow_services import CHECKOUT
from tools.bench import api, collect, hive, ledger, runs, waiting, workers
from tools.bench.measurement import (
    REFERENCE_SECONDS,
    SERVERS,
    describe_machine,
    describe_speed,
    format_table,
    measure_calibration,
)

FILE = CHECKOUT / "docs" / "performance.md"

BENCHES = {
    "hive": ("A hive with 10,000 jobs", hive.measure),
    "api": ("Events over HTTP", api.measure),
    "workers": ("Processes of the API server", workers.measure),
    "runs": ("Events from the request to the report", runs.measure),
    "waiting": ("Waiting runs", waiting.measure),
    "collect": ("A year of events of ensembl_metadata", collect.measure),
    "ledger": ("A ledger with 1,000,000 events", ledger.measure),
}

HEAD = f"""# Performance

The results of the last `make bench`; values that exceed their limit are **bold**.

The limits of times and rates are meant for a machine that needs {REFERENCE_SECONDS:g} s for 20 million
additions in Python. If a section has the time of its machine for them, its limits are scaled by it; those of
the other sections, which an earlier version of the benchmarks wrote, are not.
"""


def main() -> int:
    """Run the benchmarks of the command line; return 1 if a value exceeds its limit."""
    return 0 if all([_run(name) for name in sys.argv[1:] or BENCHES]) else 1


def _run(name: str) -> bool:
    """Run a benchmark, write its section, and return whether all values are within their limits."""
    title, measure = BENCHES[name]
    calibration, measurements = measure_calibration(), []
    for measurement in measure():
        print(f"{measurement.value:10.2f} {measurement.unit:16} {measurement.step}", flush=True)
        measurements.append(measurement)
    calibration = (calibration + measure_calibration()) / 2
    slowness = calibration / REFERENCE_SECONDS
    table = format_table(measurements, slowness)
    machine, speed = describe_machine(SERVERS), describe_speed(calibration)
    _write_section(title, f"By `make bench-{name}` of {_commit()}. {machine}. {speed}.\n\n{table}\n")
    print(f"\n{table}\n\nWritten to {FILE}")
    return all(measurement.is_within_limit(slowness) for measurement in measurements)


def _write_section(title: str, text: str) -> None:
    """Replace a section of the file; the sections have the order of ``BENCHES``."""
    content = FILE.read_text() if FILE.exists() else ""
    sections = dict(re.findall(r"^## (.*)\n\n((?:(?!## ).*\n?)*)", content, re.MULTILINE))
    sections[title] = text
    titles = [title for title, _ in BENCHES.values() if title in sections]
    FILE.write_text("\n".join([HEAD, *(f"## {title}\n\n{sections[title].rstrip()}\n" for title in titles)]))


def _commit() -> str:
    """Return the commit that was measured; changes of the results file do not count as changes."""
    commit = _git("describe", "--always").stdout.strip()
    changed = _git("diff", "--quiet", "HEAD", "--", ".", f":!{FILE.relative_to(CHECKOUT)}").returncode
    return f"{commit}{'-dirty' if changed else ''}" if commit else "no commit"


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, check=False
    )


if __name__ == "__main__":
    sys.exit(main())
