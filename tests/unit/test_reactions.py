"""What the event lookup says beyond names."""

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


def test_a_process_that_waits_does_not_react_to_one_event(tmp_path: Path) -> None:
    found = load(tmp_path, {"genebuild": ["dump", JOIN], "xrefs": [], "patch": ["flat"]})
    assert found.rules.joins == {
        "flat": JoinRule(process="flat", after=("genebuild", "xrefs"), within=21600, then="run")
    }
    batch = EventBatch.from_conf({"events": [{"type": "genebuild"}, {"type": "xrefs"}, {"type": "patch"}]})
    assert found.plan(batch) == {"dump": [0], "flat": [2]}
    assert found.rules.processes_for("xrefs") == ["flat"]


def test_what_was_made_of_several_events_is_for_the_process_that_waited(tmp_path: Path) -> None:
    found = load(tmp_path, {"genebuild": ["dump", JOIN], "xrefs": []})
    joined = {"process": "flat", "missing": [], "events": [{}]}
    assert found.plan(EventBatch.from_conf({"type": "genebuild", "joined": joined})) == {"flat": [0]}
    gone = EventBatch.from_conf({"type": "genebuild", "joined": {**joined, "process": "old"}})
    with pytest.raises(
        EventInvalid, match=r"^joined.process: .*, not 'old': it left the lookup while it waited"
    ):
        found.plan(gone)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2d", 172800)])
def test_a_time_has_a_unit(text: str, seconds: float, tmp_path: Path) -> None:
    found = load(tmp_path, {"genebuild": [{**JOIN, "within": text}], "xrefs": []})
    assert found.rules.joins["flat"].within == seconds


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
            r"xrefs\[0\]: expected the same after, within and then wherever 'flat' waits",
        ),
        (
            {"genebuild": [{"process": "dump", "once_per": ["genome"]}], "xrefs": ["dump"]},
            r"xrefs\[0\]: expected the same once_per wherever 'dump' stands",
        ),
        (
            {"genebuild": [{"process": "dump", "once_per": []}]},
            r"genebuild\[0\].once_per: .*(non-empty|short)",
        ),
        (
            {"genebuild": [{"process": "dump", "after": ["a", "b"]}]},
            r"genebuild\[0\]: 'within' is a dependency",
        ),
        ({"genebuild": [{"process": "rna"}]}, r"genebuild\[0\]: expected a process that .* has, not 'rna'"),
        ({"genebuild": [{"once_per": ["genome"]}]}, r"genebuild\[0\]: 'process' is a required property"),
        ({"genebuild": [5]}, r"genebuild\[0\]: expected string or object, not int"),
    ],
)
def test_what_contradicts_itself_is_named_by_its_key(events: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(LookupInvalid, match=rf"events\.json: {message}"):
        load(tmp_path, events)


def test_a_loop_through_a_process_that_waits_is_refused(tmp_path: Path) -> None:
    expected = r"processes\.json: flat\.emits: expected no loop, found genebuild → flat → genebuild"
    with pytest.raises(LookupInvalid, match=expected):
        load(tmp_path, {"genebuild": [JOIN], "xrefs": []}, {"flat": ["genebuild"]})


def test_what_is_done_once_is_claimed_by_its_values(tmp_path: Path) -> None:
    found = load(tmp_path, {"genebuild": [{"process": "dump", "once_per": ["genome", "build"]}, "flat"]})
    events = [
        {"type": "genebuild", "genome": "g", "build": 1},
        {"type": "genebuild", "genome": None, "build": None, "force": True, "reason": "new software"},
    ]
    plan = found.plan(EventBatch.from_conf({"events": events}))
    claims = planning.claims(dict(enumerate(events)), plan, found)
    assert claims == {
        (0, "dump"): OnceClaim({"genome": "g", "build": 1}, False),
        (1, "dump"): OnceClaim({"genome": None, "build": None}, True),
    }
    assert claims[0, "dump"].subject != claims[1, "dump"].subject


def test_an_event_that_lacks_what_it_is_done_once_for_is_refused(tmp_path: Path) -> None:
    found = load(tmp_path, {"genebuild": [{"process": "dump", "once_per": ["genome", "build"]}]})
    expected = "^build: expected a value, or null: dump is done once per genome, build$"
    with pytest.raises(EventInvalid, match=expected):
        found.plan(EventBatch.from_conf({"type": "genebuild", "genome": "g"}))
