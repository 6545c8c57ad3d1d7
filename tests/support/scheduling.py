"""
Which tests run at the same time, in which process, and in which order.

Tests marked ``alone`` measure times: no other test runs at the same time. Tests of the group ``faults`` stop
or change parts of the running Airflow: no other test of Airflow runs at the same time. Tests without Airflow
do; they use the processors while the others wait for a recovery. While a test stops the broker, only tests
without a broker run. Locks ensure that. Without pytest-xdist there is one process, and the locks have no
effect.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support.session import SESSION

GROUPS = {
    "tests/integration/reports/": "reports",  # they share a broker of their own, which takes 6 s to start
    "tests/integration/test_tls.py": "tls",  # they share a server with a certificate
    "tests/faults/test_changed_dag.py": "manual",  # they do the jobs of hive_manual
    "tests/faults/test_slow_stops.py": "manual",
    "tests/system/test_marking.py": "manual",
    "tests/system/test_deleting.py": "manual",
    "tests/faults/": "faults",
    "tests/system/test_secrets.py": "last",  # searches the output of all other tests
    "tests/system/test_process_event.py": "process_event",
    "tests/system/test_access.py": "access",  # they share a second API server
    "tests/system/test_board.py": "board",
    "tests/system/test_client.py": "client",
}
"""``{prefix of a path: group}``; one process runs the tests of a group, in their order."""

STOPS_BROKER = "tests/faults/test_broker_outage.py"

WITHOUT_BROKER = (
    *("tests/unit/", "tests/dags/", "tests/integration/hive/"),
    "tests/integration/test_secret_scan.py",
)
"""Prefixes of the paths of tests that use no broker; at least these run while a test stops it."""


def group_of(path: str) -> str | None:
    """Return the group of a test's node id or file, relative to the checkout."""
    return next((group for prefix, group in GROUPS.items() if path.startswith(prefix)), None)


class GroupScheduling(LoadScopeScheduling):
    """
    Assign the next test, or the next group of tests, to each process.

    xdist's own ``--dist loadgroup`` changes node ids, which pytest 9.2 ignores (seen with xdist 3.8.0).
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid) or nodeid


@pytest.hookimpl(optionalhook=True)  # with -p no:xdist the hook is unknown
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> GroupScheduling:
    """Schedule by group, and keep the order of the tests."""
    config.option.loadscopereorder = False
    return GroupScheduling(config, log)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that need the running Airflow."""
    if "system" in getattr(item, "fixturenames", ()):
        item.add_marker("system")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the tests, and deselect those that need the option --rounds."""
    items.sort(key=_position)
    if not config.getoption("--rounds"):
        only_with_rounds = [item for item in items if item.get_closest_marker("rounds")]
        config.hook.pytest_deselected(items=only_with_rounds)
        items[:] = [item for item in items if item not in only_with_rounds]


def _position(item: pytest.Item) -> int:
    """
    Return the position of a test in the order.

    The tests of Airflow come first: until they have ended, no test of the group ``faults`` can run, and these
    take half of the time, in one process. The tests without Airflow use the processors meanwhile. Of the
    others, groups come first, because each takes long in one process.
    """
    group = group_of(item.nodeid)
    if group == "last":
        return 8
    if is_alone(item):
        return 7
    if item.get_closest_marker("system"):
        return 3 if group == "faults" else 1 if group else 2
    if item.nodeid.startswith(WITHOUT_BROKER):
        return 4
    return 5 if group else 6


def is_alone(item: pytest.Item) -> bool:
    """Return whether no other test may run at the same time."""
    return item.get_closest_marker("alone") is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Hold the locks during a test with its fixtures."""
    with ExitStack() as stack:
        if item.get_closest_marker("system"):
            stack.enter_context(_lock("airflow", exclusive=group_of(item.nodeid) == "faults"))
        if not item.nodeid.startswith(WITHOUT_BROKER):
            stack.enter_context(_lock("broker", exclusive=item.nodeid.startswith(STOPS_BROKER)))
        stack.enter_context(_lock("machine", exclusive=is_alone(item)))
        return (yield)


@contextmanager
def _lock(name: str, *, exclusive: bool) -> Iterator[None]:
    with _lock_file(name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield


def _lock_file(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"event_hooks_tests_{os.environ[SESSION]}_{name}.lock"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the lock files at the end of the session."""
    if not hasattr(config, "workerinput"):
        for name in ("airflow", "broker", "machine"):
            _lock_file(name).unlink(missing_ok=True)
