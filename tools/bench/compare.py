"""
Compare the working tree with another commit, by benchmarks of both that alternate in one run.

``python -m tools.bench.compare COMMIT [--pairs 5] [--parts api single]`` checks the commit out, starts an
Airflow of each, and measures one while the processes of the other are stopped by SIGSTOP. The benchmarks
and Python packages are those of the working tree; services and settings are those of each commit.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tools.airflow_services import CHECKOUT
from tools.bench.measurement import SERVERS, describe_machine, describe_speed, measure_calibration

FOLDER = CHECKOUT / ".stack" / "compare"
BENCH = Path("tools", "bench")
PARTS = ("api", "single")

Values = Mapping[str, float]
"""``{step and unit: value}``."""


class Side:
    """
    One of the two versions, with its own Airflow.

    :param checkout: its files.
    """

    def __init__(self, name: str, checkout: Path) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.bench.side"],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(checkout), str(checkout / "plugins")])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def request(self, command: str) -> Values:
        """
        Send a command of :mod:`tools.bench.side`, and return its answer.

        :raises RuntimeError: the process has ended.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process has no pipes")
        with suppress(BrokenPipeError):  # it has ended, and so has its output
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        while line := self._process.stdout.readline():
            if line.startswith("{"):  # other lines are log lines
                values: Values = json.loads(line)
                return values
        raise RuntimeError(f"the benchmark of {self.name} has ended: see its error above")

    def close(self) -> None:
        """Stop the Airflow."""
        if self._process.stdin:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait(timeout=120)


@contextmanager
def check_out(commit: str) -> Iterator[Path]:
    """Check a commit out, with the benchmarks of the working tree; delete the files at the end."""
    folder = FOLDER / commit
    shutil.rmtree(folder, ignore_errors=True)
    _git("worktree", "prune")
    _git("worktree", "add", "--detach", str(folder), commit)
    shutil.rmtree(folder / BENCH, ignore_errors=True)
    shutil.copytree(CHECKOUT / BENCH, folder / BENCH)
    try:
        yield folder
    finally:
        _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(CHECKOUT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def compare(commit: str, pairs: int, parts: Sequence[str]) -> Iterator[tuple[Values, Values]]:
    """Yield the values of the commit and of the working tree, of each pair of measurements."""
    with check_out(commit) as folder, ExitStack() as stack:
        sides = []
        for name, checkout in ((commit, folder), ("the working tree", CHECKOUT)):
            side = Side(name, checkout)
            stack.callback(side.close)
            side.request(f"start {' '.join(parts)}")
            side.request("pause")
            sides.append(side)
        for index in range(pairs):
            values = {}
            for side in sides if index % 2 == 0 else reversed(sides):  # the first of a pair may be slower
                side.request("resume")
                values[side.name] = side.request("measure")
                side.request("pause")
            yield values[sides[0].name], values[sides[1].name]


def format_ratios(results: list[tuple[Values, Values]]) -> str:
    """Return a table of the medians, and of the ratios of each pair."""
    rows = ["| Step | Before | After | Ratio (median) | Ratios |", "| --- | ---: | ---: | ---: | --- |"]
    for step in results[0][0].keys() & results[0][1].keys():
        pairs = [(before[step], after[step]) for before, after in results]
        medians = " | ".join(f"{statistics.median(values):.2f}" for values in zip(*pairs, strict=True))
        ratios = sorted(after / before for before, after in pairs if before)
        median = f"{statistics.median(ratios):.2f}" if ratios else ""
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}" if ratios else ""
        rows.append(f"| {step} | {medians} | {median} | {spread} |")
    return "\n".join([*rows[:2], *sorted(rows[2:])])


def main() -> None:
    """Compare as the command line says, and print the table after each pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    try:
        commit = _git("rev-parse", "--short", "--verify", f"{arguments.commit}^{{commit}}")
    except subprocess.CalledProcessError:
        parser.error(f"commit: expected a commit of this repository, not {arguments.commit!r}")
    if arguments.pairs < 1:
        parser.error(f"--pairs: expected at least 1, not {arguments.pairs}")
    print(f"{describe_machine(SERVERS)}. {describe_speed(measure_calibration())}.")
    results: list[tuple[Values, Values]] = []
    for pair in compare(commit, arguments.pairs, arguments.parts):
        results.append(pair)
        print(
            f"\n{len(results)} of {arguments.pairs} pairs, before: {commit}\n{format_ratios(results)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
