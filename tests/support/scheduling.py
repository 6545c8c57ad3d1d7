"""
Which tests run at the same time, in which process, and in which order.

Serial tests run at the end, and never at the same time as another test: each holds an exclusive lock, all
others a shared one. They are those marked ``alone``, because they measure times, and those of the group
``faults``, because they stop or change a part that others use. Without pytest-xdist there is one process, and
locks have no effect.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support.session import SESSION

GROUPS = {
    "tests/integration/reports/": "reports",  # they share a broker of their own, which takes 6 s to start
    "tests/faults/": "faults",
    "tests/system/test_secrets.py": "faults",  # the last one: it searches what all others left
    "tests/system/test_process_event.py": "process_event",
    "tests/system/test_board.py": "board",
    "tests/system/test_client.py": "client",
    "tests/system/test_marking.py": "marking",
}
"""``{beginning of a path: group}``; one process runs the tests of a group, in their order."""


def group_of(path: str) -> str | None:
    """Return the group of a test's node id or file, relative to the checkout."""
    return next((group for beginning, group in GROUPS.items() if path.startswith(beginning)), None)


def is_serial(item: pytest.Item) -> bool:
    """Return whether a test must not run at the same time as another one."""
    return group_of(item.nodeid) == "faults" or item.get_closest_marker("alone") is not None


class GroupScheduling(LoadScopeScheduling):
    """
    Gives each process the next test, or the next group of tests.

    xdist's own ``--dist loadgroup`` changes node ids, which pytest 9.2 ignores (seen with xdist 3.8.0).
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid) or nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> GroupScheduling:
    """Schedule by group, and keep the order of the tests."""
    config.option.loadscopereorder = False
    return GroupScheduling(config, log)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what needs the running Airflow."""
    if "system" in getattr(item, "fixturenames", ()):
        item.add_marker("system")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort: tests without Airflow, groups of tests with Airflow, other tests with Airflow, serial tests."""
    items.sort(key=_position)
    if not config.getoption("--rounds"):
        only_with_rounds = [item for item in items if item.get_closest_marker("rounds")]
        config.hook.pytest_deselected(items=only_with_rounds)
        items[:] = [item for item in items if item not in only_with_rounds]


def _position(item: pytest.Item) -> int:
    if is_serial(item):
        return 4 if group_of(item.nodeid) else 3
    if item.get_closest_marker("system"):
        return 1 if group_of(item.nodeid) else 2
    return 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Hold the lock during a test with its fixtures."""
    with lock_file().open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if is_serial(item) else fcntl.LOCK_SH)
        return (yield)


def lock_file() -> Path:
    """Return the lock file of this session."""
    return Path(tempfile.gettempdir()) / f"event_hooks_tests_{os.environ[SESSION]}.lock"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the lock file at the end of the session."""
    if not hasattr(config, "workerinput"):
        lock_file().unlink(missing_ok=True)
