"""The rules of the event lookup: joins, once_per, and cycles of follow-up events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from event_hooks.events import lookups
from event_hooks.events.lookups import Lookups
from event_hooks.events.models import EventBatch
from event_hooks.events.rules import JoinRule
from event_hooks.exceptions import EventInvalid, LookupInvalid
from event_hooks.ledger.records import OnceClaim
from event_hooks.process_event import planning

JOIN = {"process": "flat", "after": ["genebuild", "xrefs"], "within": "6h", "then": "run"}


def load(folder: Path, events: Any, emits: Any = None) -> Lookups:
    files = folder / "events.json", folder / "processes.json"
    processes = {
        name: {"analysis": "a", "hive_conn_id": "h", "emits": (emits or {}).get(name, [])}
        for name in ("dump", "flat")
    }
    for file, content in zip(files, (events, processes), strict=True):
        file.write_text(json.dumps(content))
    return lookups.load(*files)


def test_a_joined_process_does_not_react_to_one_event(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"genebuild": ["dump", JOIN], "xrefs": [], "patch": ["flat"]})
    assert loaded.rules.joins == {
        "flat": JoinRule(process="flat", after=("genebuild", "xrefs"), within=21600, then="run")
    }
    batch = EventBatch.from_conf({"events": [{"type": "genebuild"}, {"type": "xrefs"}, {"type": "patch"}]})
    assert planning.plan_batch(batch, loaded) == {"dump": [0], "flat": [2]}
    assert loaded.rules.processes_for("xrefs") == ["flat"]


def test_a_join_event_selects_only_its_process(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"genebuild": ["dump", JOIN], "xrefs": []})
    joined = {"process": "flat", "missing": [], "events": [{}]}
    assert planning.plan_batch(EventBatch.from_conf({"type": "genebuild", "joined": joined}), loaded) == {
        "flat": [0]
    }
    removed = EventBatch.from_conf({"type": "genebuild", "joined": {**joined, "process": "old"}})
    with pytest.raises(
        EventInvalid, match=r"^joined.process: .*, not 'old': it was removed from the lookup while it waited"
    ):
        planning.plan_batch(removed, loaded)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2d", 172800)])
def test_a_join_timeout_is_parsed_with_its_unit(text: str, seconds: float, tmp_path: Path) -> None:
    loaded = load(tmp_path, {"genebuild": [{**JOIN, "within": text}], "xrefs": []})
    assert loaded.rules.joins["flat"].within == seconds


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (
            {"xrefs": [], "genebuild": [{**JOIN, "within": "6"}]},
            r"genebuild\[0\].within: expected a text like",
        ),
        (
            {"xrefs": [], "genebuild": [{**JOIN, "within": "0h"}]},
            r"genebuild\[0\].within: expected a text like",
        ),
        (
            {"xrefs": [], "genebuild": [{**JOIN, "then": "stop"}]},
            r"genebuild\[0\].then: 'stop' is not one of",
        ),
        ({"genebuild": [JOIN]}, r"genebuild\[0\].after\[1\]: expected one of genebuild, not 'xrefs'"),
        ({"genebuild": [], "xrefs": [], "patch": [JOIN]}, r"patch\[0\].after: expected 'patch' among them"),
        (
            {"genebuild": [JOIN, "flat"], "xrefs": []},
            r"genebuild: expected 'flat' either by itself, or after",
        ),
        ({"genebuild": [JOIN], "xrefs": ["flat"]}, r"xrefs: expected 'flat' either by itself, or after"),
        (
            {"genebuild": [JOIN], "xrefs": [{**JOIN, "within": "7h"}]},
            r"xrefs\[0\]: expected the same after, within and then in all entries of 'flat'",
        ),
        (
            {"genebuild": [{"process": "dump", "once_per": ["genome"]}], "xrefs": ["dump"]},
            r"xrefs\[0\]: expected the same once_per in all entries of 'dump'",
        ),
        (
            {"genebuild": [{"process": "dump", "once_per": []}]},
            r"genebuild\[0\].once_per: .*(non-empty|short)",
        ),
        (
            {"genebuild": [{"process": "dump", "after": ["a", "b"]}]},
            r"genebuild\[0\]: 'within' is a dependency",
        ),
        (
            {"genebuild": [{"process": "rna"}]},
            r"genebuild\[0\]: expected a process of the process lookup, not 'rna'",
        ),
        ({"genebuild": [{"once_per": ["genome"]}]}, r"genebuild\[0\]: 'process' is a required property"),
        ({"genebuild": [5]}, r"genebuild\[0\]: expected string or object, not int"),
    ],
)
def test_the_error_of_a_contradiction_names_its_key(events: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(LookupInvalid, match=rf"events\.json: {message}"):
        load(tmp_path, events)


def test_a_cycle_through_a_join_is_rejected(tmp_path: Path) -> None:
    expected = r"processes\.json: flat\.emits: expected no loop, found genebuild → flat → genebuild"
    with pytest.raises(LookupInvalid, match=expected):
        load(tmp_path, {"genebuild": [JOIN], "xrefs": []}, {"flat": ["genebuild"]})


def test_a_once_claim_has_the_values_of_its_fields(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"genebuild": [{"process": "dump", "once_per": ["genome", "build"]}, "flat"]})
    events = [
        {"type": "genebuild", "genome": "g", "build": 1},
        {"type": "genebuild", "genome": None, "build": None, "force": True, "reason": "new software"},
    ]
    plan = planning.plan_batch(EventBatch.from_conf({"events": events}), loaded)
    claims = planning.build_claims(dict(enumerate(events)), plan, loaded)
    assert claims == {
        (0, "dump"): OnceClaim({"genome": "g", "build": 1}, False),
        (1, "dump"): OnceClaim({"genome": None, "build": None}, True),
    }
    assert claims[0, "dump"].values_digest != claims[1, "dump"].values_digest


def test_an_event_without_a_field_of_once_per_is_rejected(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"genebuild": [{"process": "dump", "once_per": ["genome", "build"]}]})
    expected = "^build: expected a value, or null: dump runs once per genome, build$"
    with pytest.raises(EventInvalid, match=expected):
        planning.plan_batch(EventBatch.from_conf({"type": "genebuild", "genome": "g"}), loaded)
