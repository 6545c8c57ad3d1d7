"""Why a task failed, for the tasks after it: Airflow itself keeps that in the log only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from event_hooks.exceptions import EventHooksError

XCOM = "error"
"""The XCom key that holds the reason."""


@contextmanager
def left_behind(ti: Any) -> Iterator[None]:
    """Leave the message of an error of ours as an XCom of this task, and pass the error on."""
    try:
        yield
    except EventHooksError as error:
        ti.xcom_push(XCOM, str(error))
        raise
