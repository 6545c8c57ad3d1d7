"""Examples of successful responses, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

_EVENT = {"type": "new_assembly", "genome": "homo_sapiens", "event_id": "handover-4711"}
_PLACE = {"process": "dump_dna", "hive": "hive_event_handling", "analysis": "event_dump_dna"}
_RUN_ID = "api__20261128T200000_0123456789ab"
_URL = "/event-hooks/board/events/42"
_TIME = "2026-11-28T20:00:00Z"

_SUBMITTED = {
    "event": _EVENT,
    "id": 42,
    "run_id": _RUN_ID,
    "job_id": 7,
    "processes": [{**_PLACE, "job": 7, "task": f"{_RUN_ID}/dump_dna.wait", "state": "submitted"}],
    "url": _URL,
    "is_replayed": False,
    "warnings": [],
}
_PENDING = {
    **_PLACE,
    "job": None,
    "task": f"{_RUN_ID}/dump_dna.wait",
    "state": "planned",
    "message": "hive 'hive_event_handling' does not answer now",
}
_SUMMARY = {
    "id": 42,
    "type": "new_assembly",
    "genome": "homo_sapiens",
    "source": "api",
    "received_at": _TIME,
    "run_id": _RUN_ID,
    "state": "running",
    "rejected_reason": None,
    "is_finished": False,
    "processes": [
        {
            **_PLACE,
            "job": 7,
            "state": "submitted",
            "is_finished": False,
            "done": 3,
            "total": 10,
            "failed": 0,
            "message": "dumped chromosome 3",
            "stalls": [],
            "stop_requested_at": None,
            "error": None,
            "submitted_at": _TIME,
            "started_at": _TIME,
            "finished_at": None,
        }
    ],
    "url": _URL,
}
_JOB = {
    "id": 7,
    "input": {"event": _EVENT, "event_hooks": {"run_id": _RUN_ID, "token": "…"}},
    "status": "complete",
    "when_completed": "2026-11-28T20:10:00+00:00",
    "output": {"files": 25},
    "progress": {"complete": 10, "total": 10, "message": "dumped all chromosomes"},
}
_ACTION: dict[str, Any] = {
    "events": 1,
    "applied": 1,
    "is_dry_run": False,
    "items": [
        {
            "event": 42,
            "type": "new_assembly",
            "genome": "homo_sapiens",
            "process": "dump_dna",
            "state": "failed",
            "is_applied": True,
            "reason": None,
            "new_event": None,
        }
    ],
    "problems": [],
}
_STOP = {**_ACTION, "items": [{**item, "state": "submitted"} for item in _ACTION["items"]]}
_HEALTHY = {"status": "healthy"}
_HEALTH = {
    "status": "healthy",
    "ledger": _HEALTHY,
    "rabbitmq": _HEALTHY,
    **{name: {**_HEALTHY, "alive": 2} for name in ("schedulers", "dag_processors", "triggerers")},
    "workers": _HEALTHY,
    "dags": _HEALTHY,
    "runs": _HEALTHY,
    "hives": {"hive_event_handling": {**_HEALTHY, "beekeeper": True}},
}
_NO_LEDGER = {"status": "unhealthy", "message": "the ledger is unavailable now"}

EXAMPLES: dict[str, dict[str, Any]] = {
    "submit_events": {
        "201": _SUBMITTED,
        "202": {**_SUBMITTED, "job_id": None, "processes": [_PENDING]},
    },
    "plan_events": {
        "200": {
            "events": [
                {
                    "event": _EVENT,
                    "perl": '{"event" => {"event_id" => "handover-4711",…},"event_hooks" => {…}}',
                    "processes": [{**_PLACE, "is_ready": True, "problem": None}],
                    "others": [],
                }
            ],
            "not_reacting": {
                "new_assembly": [
                    {
                        "process": "dump_peptide",
                        "reason": "does not react to new_assembly; reacts to new_genebuild",
                    }
                ]
            },
        }
    },
    "compare_plans": {
        "200": {
            "since": "2026-10-29T20:00:00Z",
            "until": _TIME,
            "events": 120,
            "excluded": 0,
            "unchanged": 80,
            "differences": [
                {
                    "type": "new_assembly",
                    "process": "dump_peptide",
                    "now": 40,
                    "then": 0,
                    "place_now": "hive_event_handling/event_dump_peptide",
                    "place_then": None,
                    "is_moved": False,
                    "join_now": None,
                    "join_then": None,
                    "event_ids": [42],
                }
            ],
            "rejected": [],
        }
    },
    "list_events": {"200": [_SUMMARY]},
    "list_event_types": {"200": ["new_assembly", "new_genebuild"]},
    "show_event": {"200": {**_SUMMARY, "event": _EVENT}},
    "list_processes": {"200": ["dump_dna", "dump_peptide"]},
    "list_jobs": {"200": [_JOB]},
    "show_job": {"200": _JOB},
    "stop_job": {"200": {"id": 7, "process": "dump_dna", "stopped": [7], "running": []}},
    "retry_event": {"200": _ACTION},
    "stop_event": {"200": _STOP},
    "retry_events": {"200": _ACTION},
    "stop_events": {"200": _STOP},
    "check_health": {"200": _HEALTH, "503": {**_HEALTH, "status": "unhealthy", "ledger": _NO_LEDGER}},
}
"""``{operation id: {status: example}}``."""
