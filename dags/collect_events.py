"""
Hand over what has changed in ensembl_metadata: each event once, many in one run of `process_event`.

Every 15 minutes (setting `collect_schedule`) this reads the events of its data interval, and of the hours
before it (setting `collect_overlap`), because an event becomes visible only when its transaction ends. What
was handed over before is known, and skipped; so a run may be cleared, repeated and backfilled at will, and
two may overlap.

**Another window, by hand**: trigger it with `start` and `end`. With `dry_run` its log lists what would be
sent, what is skipped, and why; the same afterwards is the reconciliation: found, handed over, succeeded,
failed, running, ignored. A year in one such run takes minutes; `airflow backfill create` makes a run per
interval.

**Again**: `reprocess` is `failed` (the processes that failed, of events that are over) or `all`, which wants
`force` and a `reason`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import CronDataIntervalTimetable, Param, dag, task

from event_hooks import lookups, settings

if TYPE_CHECKING:
    from event_hooks.collecting import Wanted

LOOKUPS = lookups.load_last_good()

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


@dag(
    schedule=CronDataIntervalTimetable(settings.collect_schedule(), timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,
    params=PARAMS,
    default_args={
        "owner": "event_hooks",
        "queue": settings.task_queue(),
        "retries": 12,
        "retry_delay": timedelta(seconds=settings.retry_delay()),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=10),
    },
    is_paused_upon_creation=True,  # a person says from when on
    tags=["event"],
    doc_md=__doc__,
)
def collect_events() -> None:
    """Make the DAG."""

    @task(execution_timeout=timedelta(hours=1))
    def collect(**context: Any) -> dict[str, Any]:
        """Hand over the events of a window, and give how many there were of each kind."""
        from event_hooks import collecting, starting
        from event_hooks.ledger.ledger import Ledger
        from event_hooks.metadata.hook import MetadataHook
        from event_hooks.reports.outbox import send_owed

        wanted = asked(context)
        run_id = f"{context['dag'].dag_id}/{context['run_id']}"
        ledger = Ledger()
        found = MetadataHook().events(collecting.window(wanted.start), wanted.end)
        summary = collecting.collect(
            ledger, found, wanted, LOOKUPS, run_id, lambda new: starting.start(ledger, new)
        )
        ledger.owe(collecting.report(summary, wanted, run_id))
        send_owed(ledger, run_id=run_id)
        ledger.close()
        return summary.as_dict()

    collect()


def asked(context: Any) -> Wanted:
    """Read what a run is to do from its params and its data interval."""
    from airflow.sdk.exceptions import AirflowFailException

    from event_hooks.collecting import Wanted

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
    from airflow.sdk.exceptions import AirflowFailException

    text = context["params"][name]
    try:
        at = datetime.fromisoformat(text) if text else context.get(f"data_interval_{name}")
    except ValueError:
        expected = f"{name}: expected a time, as in 2026-11-01T00:00:00Z, not {text[:50]!r}"
        raise AirflowFailException(expected) from None
    return at.replace(tzinfo=at.tzinfo or UTC) if at else None


collect_events()
