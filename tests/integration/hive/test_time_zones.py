"""Times of a hive whose server is in another time zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from event_hooks.hive.hook import HiveHook
from tests.integration.hive.conftest import MakeHive, submit_job
from tests.integration.hives import PracticeHive

pytestmark = pytest.mark.alone


@pytest.fixture
def remote_hive(make_hive: MakeHive) -> Iterator[PracticeHive]:
    """A hive on a server whose time zone is not UTC."""
    hive = make_hive("mysql")
    hive.execute("SET GLOBAL time_zone = '+05:00'")
    hive.engine.dispose()
    yield hive
    hive.execute("SET GLOBAL time_zone = DEFAULT")


def test_the_time_of_completion_is_in_utc(remote_hive: PracticeHive) -> None:
    job_id = submit_job(remote_hive)
    remote_hive.execute("UPDATE job SET when_completed = '2026-03-29 06:30:00', status = 'DONE'")
    (view,) = HiveHook(remote_hive.conn_id).list_jobs("event_dump_dna", job_id)
    assert view.when_completed == datetime(2026, 3, 29, 1, 30)  # noqa: DTZ001 (the views have naive times)
