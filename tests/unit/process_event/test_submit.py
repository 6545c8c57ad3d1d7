"""The retries of the task `submit`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.definitions.retry_policy import RetryAction

from event_hooks.exceptions import AnalysisNotFound, HiveRejected, HiveUnreachable
from event_hooks.process_event.submit import ANALYSIS_RETRIES, SubmitRetryPolicy

RETRIES = 12
MISSING = AnalysisNotFound("hive", "dump")


def decide(error: Exception, tries: int, earlier_tries: int = 0) -> RetryAction:
    """Return the decision after a number of tries, in a task that was cleared after the earlier ones."""
    context: Any = {"task": SimpleNamespace(retries=RETRIES)}
    decision = SubmitRetryPolicy().evaluate(error, earlier_tries + tries, earlier_tries + RETRIES, context)
    return decision.action


@pytest.mark.parametrize("earlier_tries", [0, 4, 30])
def test_an_analysis_that_is_not_found_is_retried_a_few_times(earlier_tries: int) -> None:
    decisions = [decide(MISSING, tries, earlier_tries) for tries in range(1, ANALYSIS_RETRIES + 2)]
    assert decisions == [RetryAction.DEFAULT] * ANALYSIS_RETRIES + [RetryAction.FAIL]


@pytest.mark.parametrize("error", [HiveUnreachable("hive", "gone"), HiveRejected("hive", "read-only")])
def test_other_errors_have_the_retries_of_the_task(error: Exception) -> None:
    assert {decide(error, tries) for tries in range(1, RETRIES + 2)} == {RetryAction.DEFAULT}
