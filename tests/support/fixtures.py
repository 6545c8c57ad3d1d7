"""Fixtures of the tests that need a running Airflow."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support import installation, log_excerpts
from tests.support.log_excerpts import LogExcerpts
from tests.support.session import SESSION
from tests.support.system import System
from tools.airflow_services import CHECKOUT

EXCERPTS = pytest.StashKey[LogExcerpts]()


def folder() -> Path:
    """Return Airflow's home in this session; `make down` stops the processes of a killed session there."""
    return CHECKOUT / ".stack" / "tests" / os.environ[SESSION]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start Airflow in the background when a test will need it."""
    if (
        any(item.get_closest_marker("system") for item in session.items)
        and not session.config.option.collectonly
    ):
        installation.start_in_background(folder(), session.config.getoption("--executor"))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop Airflow, in the process that ends the session, after printing which services had ended already."""
    if not hasattr(config, "workerinput") and folder().exists():
        if (folder() / "ready").exists():
            for line in log_excerpts.list_ended(installation.Installation.read(folder()).airflow()):
                print(line)
        installation.remove(folder())


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    """The running Airflow."""
    system = System(installation.wait_ready(folder()))
    yield system
    system.close()


@pytest.fixture
def genome() -> str:
    """A genome that no other test uses."""
    return f"genome_{uuid4().hex[:12]}"


@pytest.fixture(autouse=True)
def _logs(request: pytest.FixtureRequest) -> None:
    """Store the sizes of Airflow's logs before the test."""
    if "system" in request.fixturenames:
        request.node.stash[EXCERPTS] = LogExcerpts(request.getfixturevalue("system"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the log lines of Airflow for a failed test to its report."""
    report = yield
    if report.failed and (excerpts := item.stash.get(EXCERPTS, None)):
        names = [value for name, value in item.funcargs.items() if name == "genome"]  # type: ignore[attr-defined]
        report.sections += list(excerpts.sections(*names))
    return report
