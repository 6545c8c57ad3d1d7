"""Set-up of all tests: a new Airflow home, which must be set before the first import of Airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.session import SESSION
from tools.user_settings import is_user_setting

CHECKOUT = Path(__file__).parents[1]

HOME = tempfile.mkdtemp(prefix="event_hooks_tests_")
atexit.register(shutil.rmtree, HOME)

# Without settings of the user, and of a local stack whose .stack/env this shell has read
for name in [x for x in os.environ if x.startswith("AIRFLOW_") or is_user_setting(x) or x == "EVENT_URI"]:
    del os.environ[name]

os.environ |= {
    "AIRFLOW_HOME": HOME,
    "AIRFLOW__CORE__DAGS_FOLDER": str(CHECKOUT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(CHECKOUT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
}

os.environ.setdefault(SESSION, uuid4().hex[:12])

pytest_plugins = [
    f"tests.support.{name}"
    for name in ("airflow_assets", "airflow_database", "fixtures", "scheduling", "durations")
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `make faults`."""
    group = parser.getgroup("faults", "tests/faults")
    group.addoption(
        "--rounds", type=int, default=0, help="kills of each target (default: one test kills all)"
    )
    group.addoption("--executor", choices=("celery", "local"), default="celery", help="executor of Airflow")
    group.addoption("--seed", type=int, help="repeat the kills of an earlier run, which printed its seed")
    group.addoption("--record", type=Path, metavar="FILE", help="write the counts as Markdown")
