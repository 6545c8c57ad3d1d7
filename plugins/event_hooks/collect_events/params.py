"""The params of the DAG `collect_events`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

Reprocess = Literal["none", "failed", "all"]


@dataclass(frozen=True)
class Wanted:
    """Which events are collected, and how."""

    start: datetime
    end: datetime
    source: str = "Handover"
    """``any`` for all, also for those without one."""

    division: str | None = None
    types: Sequence[str] = ()
    """As our lookups spell them; all of them if none is named."""

    genome: str = "*"
    """A pattern, as in homo_*."""

    is_dry: bool = False
    """Whether to tell only what would be done."""

    reprocess: Reprocess = "none"
    """What of the known events to do again: nothing, the processes that failed, or everything."""

    reason: str = ""
    """Why everything is done again."""


# Null where a param may be left out: the form of the web page takes no empty text, and no empty list
PARAMS = {
    "source": Param(
        "Handover", type="string", description="Of the events; `any` for all. A pre-release load is no news."
    ),
    "division": Param(None, type=["null", "string"], description="As in EnsemblVertebrates; empty for all."),
    "types": Param(
        None,
        type=["null", "array"],
        items={"type": "string"},
        description="As in new_genebuild; empty for all.",
    ),
    "genome": Param("*", type="string", description="Pattern of its name, as in homo_*."),
    "start": Param(
        None, type=["null", "string"], format="date-time", description="Instead of the data interval's."
    ),
    "end": Param(None, type=["null", "string"], format="date-time", description="Just after the last event."),
    "dry_run": Param(False, type="boolean", description="Only tell what would be done."),
    "reprocess": Param(
        "none", enum=["none", "failed", "all"], description="What to do again of what is known."
    ),
    "force": Param(False, type="boolean", description="Needed for `reprocess`: `all`."),
    "reason": Param(None, type=["null", "string"], description="Why everything is done again."),
}


def asked(context: Any) -> Wanted:
    """Read what a run is to do from its params and its data interval."""
    params = context["params"]
    if unknown := sorted(set(params) - set(PARAMS)):
        raise AirflowFailException(f"{unknown[0]}: expected a param out of {', '.join(PARAMS)}")
    start, end = (_time(context, name) for name in ("start", "end"))
    if start is None or end is None or start >= end:
        raise AirflowFailException(
            f"start, end: expected two times, the first before the second, not {start}, {end}"
        )
    reason = (params["reason"] or "").strip()
    if params["reprocess"] == "all" and not (params["force"] and reason):
        raise AirflowFailException("force, reason: expected both with reprocess: all")
    return Wanted(
        start,
        end,
        source=params["source"],
        division=params["division"] or None,
        types=params["types"] or (),
        genome=params["genome"],
        is_dry=params["dry_run"],
        reprocess=params["reprocess"],
        reason=reason,
    )


def _time(context: Any, name: str) -> datetime | None:
    text = context["params"][name]
    try:
        at = datetime.fromisoformat(text) if text else context.get(f"data_interval_{name}")
    except ValueError:
        expected = f"{name}: expected a time, as in 2026-11-01T00:00:00Z, not {text[:50]!r}"
        raise AirflowFailException(expected) from None
    return at.replace(tzinfo=at.tzinfo or UTC) if at else None
