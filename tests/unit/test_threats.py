"""What somebody could try; docs/threats.md lists the tests that are elsewhere."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from event_hooks import metrics
from event_hooks.api.intake import checked
from event_hooks.events import lookups
from event_hooks.events.lookups import MAX_FILE_BYTES
from event_hooks.exceptions import EventInvalid, LookupInvalid
from event_hooks.hive.sensor import HiveJobSensor
from event_hooks.process_event import planning

CHECKOUT = Path(__file__).parents[2]
EVENTS = {"new_assembly": ["dump_dna"]}
PROCESSES = {"dump_dna": {"analysis": "event_dump_dna", "hive_conn_id": "hive"}}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two good lookup files."""
    paths = tmp_path / "events.json", tmp_path / "processes.json"
    for path, content in zip(paths, (EVENTS, PROCESSES), strict=True):
        path.write_text(json.dumps(content))
    return paths


def test_every_test_of_the_threat_list_is_there() -> None:
    listed = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (CHECKOUT / "docs" / "threats.md").read_text())
    assert len(listed) > 20
    missing = [
        f"{file}::{name}" for file, name in listed if f"def {name}(" not in (CHECKOUT / file).read_text()
    ]
    assert missing == []


@pytest.mark.parametrize("field", ["type", "genome", "x\n2026-11-25 ERROR forged", "y\r\x1b[2K"])
def test_no_value_of_an_event_begins_a_line_of_the_log(field: str) -> None:
    event = {"type": "new_assembly", field: {"a": "#expr(1)expr#\nforged"}}
    ours = (CHECKOUT / "lookups" / f"{kind}_lookup.json" for kind in ("event", "process"))
    with pytest.raises(EventInvalid) as caught:
        planning.plan_batch(checked(event), lookups.load(*ours))
    assert all(sign.isprintable() for sign in str(caught.value))


@pytest.mark.parametrize("which", [0, 1], ids=["event lookup", "process lookup"])
@pytest.mark.parametrize("kind", ["device", "folder", "pipe", "too large", "too deep"])
def test_what_is_no_lookup_file_is_refused_at_once(
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
def test_a_process_has_no_name_that_means_something_else(name: str, files: tuple[Path, Path]) -> None:
    files[1].write_text(json.dumps({**PROCESSES, name: PROCESSES["dump_dna"]}))
    with pytest.raises(LookupInvalid):
        lookups.load(*files)


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "http://user:password@host/", "//host", "http://a b"]
)
def test_a_link_to_guihive_leads_to_a_web_page(address: str, files: tuple[Path, Path]) -> None:
    files[1].write_text(json.dumps({"dump_dna": {**PROCESSES["dump_dna"], "guihive": address}}))
    with pytest.raises(LookupInvalid, match="guihive"):
        lookups.load(*files)


def test_only_numbers_are_ever_rendered() -> None:
    """The templates of a wait are ours, and pull lists of numbers; what an event says is in none."""
    assert set(HiveJobSensor.template_fields) == {"job_ids"}


def test_no_metric_is_tagged_with_what_an_event_says() -> None:
    source = Path(metrics.__file__).read_text()
    tags = set(re.findall(r"_(?:count|time|gauge)\([^)]*?, (\w+)=", source))
    assert tags == {"type", "where", "hive"}
