"""The params of the DAG `collect_events`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

Reprocess = Literal["none", "failed", "all"]

SCHEDULED = "scheduled"
"""``run_type`` of the runs that Airflow's scheduler creates for the schedule."""


@dataclass(frozen=True)
class CollectParams:
    """The window and the filters of a run, and how it treats duplicates."""

    start: datetime
    """First instant of the window."""

    end: datetime
    """First instant after the window."""

    source: str = "Handover"
    """``any`` selects all sources, also events without a source."""

    division: str | None = None
    """As in EnsemblVertebrates; ``None`` selects all."""

    types: Sequence[str] = ()
    """As the event lookup spells them; all types if empty."""

    genome: str = "*"
    """A pattern, as in ``homo_*``."""

    is_dry_run: bool = False
    """Whether to log only which events a run would start."""

    reprocess: Reprocess = "none"
    """Which duplicates to process again: no event, the failed processes, or all processes."""

    reason: str = ""
    """Why all processes run again; required with ``reprocess: all``."""

    moves_mark: bool = False
    """Whether the window is of a scheduled run without params, which moves the high-water mark."""

    is_gap: bool = False
    """Whether the window is a part of the gap between the high-water mark and the run's own window."""


# Optional params accept null, because the trigger form sends null for an empty text or an empty list.
PARAMS = {
    "source": Param(
        "Handover",
        type="string",
        description="Source of the events; `any` for all. A pre-release load changes nothing on staging.",
    ),
    "division": Param(None, type=["null", "string"], description="As in EnsemblVertebrates; empty for all."),
    "types": Param(
        None,
        type=["null", "array"],
        items={"type": "string"},
        description="As in new_genebuild; empty for all.",
    ),
    "genome": Param("*", type="string", description="Pattern of the genome's name, as in homo_*."),
    "start": Param(
        None,
        type=["null", "string"],
        format="date-time",
        description="Start of the window; empty for the start of the data interval.",
    ),
    "end": Param(
        None,
        type=["null", "string"],
        format="date-time",
        description="End of the window, exclusive; empty for the end of the data interval.",
    ),
    "dry_run": Param(False, type="boolean", description="Only log which events would be started."),
    "reprocess": Param(
        "none", enum=["none", "failed", "all"], description="Which duplicates to process again."
    ),
    "force": Param(False, type="boolean", description="Required for `reprocess`: `all`."),
    "reason": Param(None, type=["null", "string"], description="Why all processes run again."),
}


def parse_params(context: Any) -> CollectParams:
    """
    Read the params and the data interval of a run.

    :param context: Airflow's task context.
    :raises AirflowFailException: a param is unknown or invalid; a retry cannot help.
    """
    params = context["params"]
    if unknown := sorted(set(params) - set(PARAMS)):
        raise AirflowFailException(f"{unknown[0]}: expected a param out of {', '.join(PARAMS)}")
    start, end = _parse_window(context)
    reason = (params["reason"] or "").strip()
    if params["reprocess"] == "all" and not (params["force"] and reason):
        raise AirflowFailException("force, reason: expected both with reprocess: all")
    parsed = CollectParams(
        start,
        end,
        source=params["source"],
        division=params["division"] or None,
        types=params["types"] or (),
        genome=params["genome"],
        is_dry_run=params["dry_run"],
        reprocess=params["reprocess"],
        reason=reason,
    )
    has_defaults = parsed == CollectParams(start, end) and not (params["start"] or params["end"])
    return replace(parsed, moves_mark=has_defaults and context["dag_run"].run_type == SCHEDULED)


def _parse_window(context: Any) -> tuple[datetime, datetime]:
    start, end = (_parse_time(context, name) for name in ("start", "end"))
    if start is None or end is None or start >= end:
        raise AirflowFailException(
            f"start, end: expected two times, the first before the second, not {start}, {end}"
        )
    return start, end


def _parse_time(context: Any, name: str) -> datetime | None:
    """Return a time of the window; a time without a zone is UTC."""
    text = context["params"][name]
    try:
        time = datetime.fromisoformat(text) if text else context.get(f"data_interval_{name}")
    except ValueError:
        expected = f"{name}: expected a time, as in 2026-11-01T00:00:00Z, not {text[:50]!r}"
        raise AirflowFailException(expected) from None
    return time.replace(tzinfo=time.tzinfo or UTC) if time else None
