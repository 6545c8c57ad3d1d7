"""``HiveSubmitOperator`` by itself, as another DAG would use it."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from event_hooks.exceptions import AnalysisNotFound, UnsafeValue
from event_hooks.hive import perl
from event_hooks.hive.operator import HiveSubmitOperator
from tests.integration.hives import PracticeHive

INPUTS = [{"genome": "homo_sapiens"}, {"genome": "mus_musculus"}]


def run_operator(hive: PracticeHive, ti: Mock, **changes: Any) -> list[int]:
    arguments = {"hive_conn_id": hive.conn_id, "analysis": "event_dump_dna", "inputs": INPUTS, **changes}
    return HiveSubmitOperator(task_id="submit", **arguments).execute({"ti": ti})  # type: ignore[typeddict-item]


def test_each_input_has_a_job_in_the_order_of_the_inputs(hive: PracticeHive) -> None:
    job_ids = run_operator(hive, Mock())
    rows = hive.fetch_rows("SELECT job_id, input_id FROM job ORDER BY job_id")
    inputs = {job_id: perl.loads(text) for job_id, text in rows}
    assert [inputs[job_id] for job_id in job_ids] == INPUTS


def test_a_retry_returns_the_same_jobs(hive: PracticeHive) -> None:
    assert run_operator(hive, Mock()) == run_operator(hive, Mock())
    assert len(hive.fetch_rows("SELECT job_id FROM job")) == len(INPUTS)


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"analysis": "missing"}, AnalysisNotFound), ({"inputs": [{"genome": "#expr(1)expr#"}]}, UnsafeValue)],
)
def test_an_error_is_pushed_as_xcom_and_no_job_is_inserted(
    hive: PracticeHive, changes: dict[str, Any], error: type[Exception]
) -> None:
    ti = Mock()
    with pytest.raises(error) as caught:
        run_operator(hive, ti, **changes)
    ti.xcom_push.assert_called_once_with("error", str(caught.value))
    assert hive.fetch_rows("SELECT job_id FROM job") == []
