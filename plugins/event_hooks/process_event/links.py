"""Links on Airflow's pages of a task: to its events on the event board, and to guiHIVE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow.sdk import BaseOperatorLink, conf

from event_hooks.settings import BOARD_PATH

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class BoardLink(BaseOperatorLink):
    """A link to the events of a run on the event board."""

    name = "Event board"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL, on the server of Airflow's ``[api] base_url``."""
        return build_board_url(ti_key.run_id)


class GuiHiveLink(BaseOperatorLink):
    """A link to guiHIVE, for a process with ``guihive`` in the lookup."""

    name = "guiHIVE"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL; an empty string hides the link."""
        return str(getattr(operator, "guihive", None) or "")


LINKS = (BoardLink(), GuiHiveLink())


def select_links(guihive: str | None) -> Sequence[BaseOperatorLink]:
    """Return the links of a task; the serialized DAG has them for each process."""
    return LINKS if guihive else LINKS[:1]


def build_board_url(run_id: str) -> str:
    """Return the URL of a run's events on the board."""
    base_url = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
    return f"{base_url}{BOARD_PATH}?{urlencode({'run': run_id})}"


def build_link_xcoms(run_id: str, guihive: str | None) -> dict[str, Any]:
    """Return the links as the XComs that Airflow's pages read, for a task that ends in the triggerer."""
    board = {BoardLink().xcom_key: build_board_url(run_id)}
    return {**board, GuiHiveLink().xcom_key: guihive} if guihive else board
