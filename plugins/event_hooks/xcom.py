"""What a trigger leaves for other tasks."""

from __future__ import annotations

import json
from typing import Any


def decoded(xcom: Any) -> Any:
    """Read an XCom that a trigger left as text: Airflow 3.3 stores it as the text of its JSON."""
    while isinstance(xcom, str):
        xcom = json.loads(xcom)
    return xcom
