"""What was counted, for people to read."""

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

Written by `make faults`; do not edit. In each round two runs are under way, one of a single event and one of
a batch of two; some of their jobs fail. At a random moment between their arrival and their last report
something is killed with SIGKILL (connections to the hive: with `KILL USER`, again and again for a second)
and, if nothing else does so, started again. Then all is counted. Two triggerers run at once.

A *fault* is: more or fewer than one entry job for an event and process; a run that does not end within
{limit:.0f} s, or not in the state of its jobs; an outcome not reported, or a wrong report.

{table}

- *Repeated* reports came again with the same `message_id`: that is allowed, another verdict is not.
- *Recovery* is from the kill to the end of the last run. Undisturbed, the runs take {span:.1f} s in all.
- The first unfinished step of the runs at the kill: {steps}.
- Hit: {hits}.
- {when:%Y-%m-%d %H:%M} UTC, {minutes:.0f} minutes. Seed {seed}: `make faults ARGS="--seed {seed}"`.
- {machine}.

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
    """One kill, and what was counted after it."""

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
        """Give how many reports had been sent before."""
        return len(self.message_ids) - len(set(self.message_ids))


def write(
    file: Path, rounds: Sequence[Round], *, seed: int, span: float, limit: float, started: datetime
) -> None:
    """
    Write a table with one row for each target.

    :param span: seconds that the runs take undisturbed.
    :param limit: seconds that they may take.
    """
    targets = list(dict.fromkeys(one.target for one in rounds))
    rows = [_row(target, [one for one in rounds if one.target == target]) for target in targets]
    rows.append(_row("all", rounds))
    faults = [f"- {one.target}, round {one.number}: {fault}" for one in rounds for fault in one.faults]
    text = TEXT.format(
        table="\n".join([_line(COLUMNS), _line(["---"] * len(COLUMNS)), *map(_line, rows)]),
        steps=_counts(sum((one.steps for one in rounds), Counter[str]())),
        hits=_counts(Counter(one.killed for one in rounds)),
        span=span,
        limit=limit,
        when=started,
        minutes=(datetime.now(UTC) - started).total_seconds() / 60,
        seed=seed,
        machine=_machine(),
        faults="\n".join(["Faults:", "", *faults]) if faults else "No fault.",
    )
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def _row(name: str, rounds: Sequence[Round]) -> list[str]:
    seconds = sorted(one.seconds for one in rounds)
    counts = [
        len(rounds),
        *(sum(getattr(one, what) for one in rounds) for what in ("runs", "events", "jobs")),
        sum(len(one.message_ids) for one in rounds),
        sum(one.repeats for one in rounds),
    ]
    times = [f"{seconds[len(seconds) // 2]:.1f} s", f"{seconds[-1]:.1f} s"]
    return [name, *map(str, counts), *times, str(sum(len(one.faults) for one in rounds))]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown CPU")
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return (
        f"{psutil.cpu_count()} cores ({model}), {psutil.virtual_memory().total / 2**30:.0f} GiB, {system},"
        f" kernel {platform.release()}, Python {sys.version.split()[0]}, Airflow {version('apache-airflow')}"
    )
