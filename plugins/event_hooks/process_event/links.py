"""Buttons on Airflow's pages: from a task to its events on the board, and to guiHIVE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

BOARD = "/event-hooks/board"


class BoardLink(BaseOperatorLink):
    """To what the event board shows of a run."""

    name = "Event board"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Give the address, on the server that Airflow's ``[api] base_url`` names."""
        return board_of(ti_key.run_id)


class GuiHiveLink(BaseOperatorLink):
    """To guiHIVE, where the process names its address."""

    name = "guiHIVE"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Give the address; nothing if there is none."""
        return str(getattr(operator, "guihive", None) or "")


LINKS = (BoardLink(), GuiHiveLink())


def board_of(run_id: str) -> str:
    """Give the address of a run's events on the board."""
    base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
    return f"{base}{BOARD}?{urlencode({'run': run_id})}"


def as_xcoms(run_id: str, guihive: str | None) -> dict[str, Any]:
    """Give the links as the XComs that Airflow's pages read, for a task that ends in the triggerer."""
    return {BoardLink().xcom_key: board_of(run_id), GuiHiveLink().xcom_key: guihive or ""}
