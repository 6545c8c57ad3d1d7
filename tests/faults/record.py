"""The counts of all rounds, as Markdown."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

TEXT = """\
# Once only, counted

Written by `make faults`; do not edit. In each round two runs are unfinished, one of a single event and one of
a batch of two; some of their jobs fail. At a random moment between their arrival and their last report, a
target is killed with SIGKILL (connections to the hive: with `KILL USER`, repeatedly for a second) and, if
nothing else restarts it, started again. Then jobs, runs and reports are counted. There are two triggerers.

A *fault* is: more or fewer than one submitted job for an event and process; a run that does not finish within
{wait_seconds:.0f} s, or whose state differs from its jobs'; an outcome without a report, or a wrong report.

{table}

- *Repeated* reports were sent again with the same `message_id`. This is allowed; another outcome is not.
- *Recovery* is from the kill to the end of the last run. Without a kill, the runs take {run_seconds:.1f} s.
- First unfinished steps of the runs at the kill: {steps}.
- Killed: {killed}.
- {started:%Y-%m-%d %H:%M} UTC, {minutes:.0f} minutes. Seed {seed}: `make faults ARGS="--seed {seed}"`.
- {machine}.

{faults}
"""
CHANGES_TITLE = "## Random changes"
CHANGES_TEXT = """\
{title}

While events arrive, lookups, hives and clocks change at random, and waits are cleared. Afterwards each
process of each event must have exactly one outcome: that of its job in the hive of its plan, and the last
report on it must have the same outcome. A job of a hive that was created again is `missing`, unless the
ledger had its outcome before. `tests/faults/clocks.py` names the clocks that can differ.

| change | number |
| --- | --- |
{changes}

- {events} events. Their processes: {states}.
- {minutes:.0f} minutes with changes. Seed {seed}: `make faults ARGS="--seed {seed}"`.

{faults}
"""
COLUMNS = (
    "killed",
    "rounds",
    "runs",
    "events",
    "jobs",
    "reports",
    "repeated",
    "median recovery",
    "longest recovery",
    "faults",
)


@dataclass(frozen=True)
class Round:
    """One kill, and the counts after it."""

    target: str
    number: int
    killed: str
    steps: Counter[str]
    seconds: float
    runs: int
    events: int
    jobs: int
    message_ids: Sequence[str]
    faults: Sequence[str]

    @property
    def repeats(self) -> int:
        """The number of reports that had been sent before."""
        return len(self.message_ids) - len(set(self.message_ids))


def write(
    file: Path,
    rounds: Sequence[Round],
    *,
    seed: int,
    run_seconds: float,
    wait_seconds: float,
    started: datetime,
) -> None:
    """
    Write a table with one row for each target.

    :param run_seconds: duration of the runs without a kill.
    :param wait_seconds: timeout of the runs.
    """
    targets = list(dict.fromkeys(entry.target for entry in rounds))
    rows = [_row(target, [entry for entry in rounds if entry.target == target]) for target in targets]
    rows.append(_row("all", rounds))
    faults = [
        f"- {entry.target}, round {entry.number}: {fault}" for entry in rounds for fault in entry.faults
    ]
    text = TEXT.format(
        table="\n".join([_line(COLUMNS), _line(["---"] * len(COLUMNS)), *map(_line, rows)]),
        steps=_format_counts(sum((entry.steps for entry in rounds), Counter[str]())),
        killed=_format_counts(Counter(entry.killed for entry in rounds)),
        run_seconds=run_seconds,
        wait_seconds=wait_seconds,
        started=started,
        minutes=(datetime.now(UTC) - started).total_seconds() / 60,
        seed=seed,
        machine=_describe_machine(),
        faults=_format_faults(faults),
    )
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def write_changes(
    file: Path,
    changes: Counter[str],
    states: Counter[str],
    faults: Sequence[str],
    *,
    events: int,
    seconds: float,
    seed: int,
) -> None:
    """
    Write or replace the section on random changes, after the table of kills.

    :param changes: number of changes by kind.
    :param states: number of processes of events by their final state.
    :param seconds: during which changes were made.
    """
    text = CHANGES_TEXT.format(
        title=CHANGES_TITLE,
        changes="\n".join(_line([kind, str(count)]) for kind, count in sorted(changes.items())),
        events=events,
        states=_format_counts(states),
        minutes=seconds / 60,
        seed=seed,
        faults=_format_faults([f"- {fault}" for fault in faults]),
    )
    before = file.read_text().partition(f"\n{CHANGES_TITLE}")[0] if file.exists() else ""
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{before}\n{text}")


def _row(name: str, rounds: Sequence[Round]) -> list[str]:
    seconds = sorted(entry.seconds for entry in rounds)
    counts = [
        len(rounds),
        *(sum(getattr(entry, field) for entry in rounds) for field in ("runs", "events", "jobs")),
        sum(len(entry.message_ids) for entry in rounds),
        sum(entry.repeats for entry in rounds),
    ]
    times = [f"{seconds[len(seconds) // 2]:.1f} s", f"{seconds[-1]:.1f} s"]
    return [name, *map(str, counts), *times, str(sum(len(entry.faults) for entry in rounds))]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _format_faults(lines: Sequence[str]) -> str:
    return "\n".join(["Faults:", "", *lines]) if lines else "No fault."


def _format_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def _describe_machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown CPU")
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return (
        f"{psutil.cpu_count()} cores ({model}), {psutil.virtual_memory().total / 2**30:.0f} GiB, {system},"
        f" kernel {platform.release()}, Python {sys.version.split()[0]}, Airflow {version('apache-airflow')}"
    )
