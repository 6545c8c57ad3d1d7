"""The short form of ``make bench-hive``: fewer trees, the same limits."""

from __future__ import annotations

import pytest

from tools.bench.hive import bench


@pytest.mark.alone
def test_many_jobs_stay_within_the_limits_of_the_benchmark(mysql_url: str) -> None:
    with bench(mysql_url, 2000) as hive:
        measured = list(hive.run())
    assert [one for one in measured if not one.is_good] == []
    assert sum(one.most is not None for one in measured) == 5
