"""XComs that tasks and triggers exchange."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from event_hooks.exceptions import EventHooksError

ERROR_KEY = "error"
"""Key of the XCom that holds the error message of a failed task; Airflow itself writes it to the log only."""


@contextmanager
def push_error_xcom(ti: Any) -> Iterator[None]:
    """Push the message of an :class:`EventHooksError` to XCom and re-raise it."""
    try:
        yield
    except EventHooksError as error:
        ti.xcom_push(ERROR_KEY, str(error))
        raise


def decode_xcom(value: Any) -> Any:
    """Decode an XCom that a trigger stored as text: Airflow 3.3 encodes the text as JSON a second time."""
    while isinstance(value, str):
        value = json.loads(value)
    return value
