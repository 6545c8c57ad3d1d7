"""The short form of ``make bench-hive``: fewer trees, the same limits."""

from __future__ import annotations

import pytest

from tools.bench.hive import bench


@pytest.mark.alone
def test_many_jobs_stay_within_the_limits_of_the_benchmark(mysql_url: str) -> None:
    with bench(mysql_url, 2000) as hive:
        steps = list(hive.run())
    assert [step for step in steps if not step.is_within_limit] == []
    assert sum(step.max_statements is not None for step in steps) == 5
