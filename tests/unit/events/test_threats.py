"""Attempts at misuse; docs/explanation/security.md also lists the tests in other modules."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from event_hooks import metrics
from event_hooks.api.intake import parse_events
from event_hooks.events import lookups
from event_hooks.events.lookups import MAX_FILE_BYTES
from event_hooks.exceptions import EventInvalid, LookupInvalid
from event_hooks.hive.sensor import HiveJobSensor
from event_hooks.process_event import planning

CHECKOUT = Path(__file__).parents[3]
EVENTS = {"new_assembly": ["dump_dna"]}
PROCESSES = {"dump_dna": {"analysis": "event_dump_dna", "hive_conn_id": "hive"}}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two valid lookup files."""
    paths = tmp_path / "events.json", tmp_path / "processes.json"
    for path, content in zip(paths, (EVENTS, PROCESSES), strict=True):
        path.write_text(json.dumps(content))
    return paths


def test_every_test_in_the_threat_list_exists() -> None:
    page = CHECKOUT / "docs" / "explanation" / "security.md"
    listed = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text())
    assert len(listed) > 20
    missing = [
        f"{file}::{name}" for file, name in listed if f"def {name}(" not in (CHECKOUT / file).read_text()
    ]
    assert missing == []


@pytest.mark.parametrize("field", ["type", "genome", "x\n2026-11-25 ERROR forged", "y\r\x1b[2K"])
def test_no_value_of_an_event_starts_a_log_line(field: str) -> None:
    event = {"type": "new_assembly", field: {"a": "#expr(1)expr#\nforged"}}
    files = (CHECKOUT / "lookups" / f"{kind}_lookup.json" for kind in ("event", "process"))
    with pytest.raises(EventInvalid) as caught:
        planning.plan_batch(parse_events(event), lookups.load(*files))
    assert all(character.isprintable() for character in str(caught.value))


@pytest.mark.parametrize("which", [0, 1], ids=["event lookup", "process lookup"])
@pytest.mark.parametrize("kind", ["device", "folder", "pipe", "too large", "too deep"])
def test_a_file_that_cannot_be_a_lookup_is_rejected(
    which: int, kind: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    paths = list(files)
    match kind:
        case "device":
            paths[which] = Path("/dev/zero")
        case "folder":
            paths[which] = tmp_path
        case "pipe":
            paths[which] = tmp_path / "pipe"
            os.mkfifo(paths[which])
        case "too large":
            with files[which].open("w") as file:
                file.truncate(MAX_FILE_BYTES + 1)
        case "too deep":
            files[which].write_text("[" * 100_000)
    with pytest.raises(LookupInvalid, match="expected (a regular file|fewer levels)"):
        lookups.load(*paths)


@pytest.mark.parametrize(
    "name", ["route", "report", "plan", "a b", "{{ x }}", "<b>", "../up", "a.b", "x" * 101, ""]
)
def test_a_reserved_or_unsafe_process_name_is_rejected(name: str, files: tuple[Path, Path]) -> None:
    files[1].write_text(json.dumps({**PROCESSES, name: PROCESSES["dump_dna"]}))
    with pytest.raises(LookupInvalid):
        lookups.load(*files)


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "http://user:password@host/", "//host", "http://a b"]
)
def test_only_web_addresses_are_valid_for_guihive(address: str, files: tuple[Path, Path]) -> None:
    files[1].write_text(json.dumps({"dump_dna": {**PROCESSES["dump_dna"], "guihive": address}}))
    with pytest.raises(LookupInvalid, match="guihive"):
        lookups.load(*files)


def test_only_job_ids_are_rendered_as_templates() -> None:
    """The templates of a sensor pull lists of job ids; no value of an event is rendered."""
    assert set(HiveJobSensor.template_fields) == {"job_ids"}


def test_no_metric_tag_comes_from_an_event() -> None:
    source = Path(metrics.__file__).read_text()
    tags = set(re.findall(r"_(?:count|time|gauge)\([^)]*?, (\w+)=", source))
    assert tags == {"type", "where", "hive"}
