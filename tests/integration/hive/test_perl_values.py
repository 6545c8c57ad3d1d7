"""``input_id`` is Perl code; a real perl evaluates it here, as the workers of eHive do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from event_hooks.events.models import EventBatch
from event_hooks.exceptions import UnsafeValue
from event_hooks.hive import perl
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.sql.job_trees import JobState
from tests.integration.hive.conftest import MakeHive, read_outcome
from tests.integration.hives import PracticeHive


def run_event(hive: PracticeHive, event: dict[str, Any]) -> Any:
    """Run a job for this event, and return its result."""
    job_input = EventBatch.from_conf(event).build_job_input(0, "a_run", "a_task")
    (job_id,) = HiveHook(hive.conn_id).submit("event_dump_dna", [perl.dumps(job_input)])
    hive.run_jobs()
    final = read_outcome(hive, job_id)
    assert final.state is JobState.COMPLETE, final.error
    return final.result


@pytest.mark.parametrize(
    "exploit",
    [
        '\\", z => system(q(touch {file})), y => "',
        "\\@{{[system(q(touch {file}))]}}",
        '"; system("touch {file}"); "',
        "${{\\system(q(touch {file}))}}",
    ],
)
def test_an_exploit_reaches_the_result_as_data(make_hive: MakeHive, tmp_path: Path, exploit: str) -> None:
    text = exploit.format(file=tmp_path / "made_by_perl")
    result = run_event(make_hive("sqlite"), {"type": "new_assembly", "genome": text})
    assert result["genome"] == text
    assert list(tmp_path.iterdir()) == []


def test_an_exploit_in_a_key_is_data(make_hive: MakeHive, tmp_path: Path) -> None:
    key = f'a" => system(q(touch {tmp_path}/made_by_perl)), "b'
    assert run_event(make_hive("sqlite"), {"type": "x", "genome": "g", key: {key: 1}})["genome"] == "g"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["x@y.z", "$5", "C:\\new", "rev\\101", "a\\LBIG", "C# and #1", "end \\"])
def test_special_characters_of_perl_are_unchanged(make_hive: MakeHive, text: str) -> None:
    assert run_event(make_hive("sqlite"), {"type": "x", "genome": text})["genome"] == text


@pytest.mark.parametrize("charset", ["latin1", "utf8mb4"])
def test_non_latin1_characters_pass_through_the_input_column(make_hive: MakeHive, charset: str) -> None:
    hive = make_hive("mysql")
    if charset != "latin1":  # latin1 is the default
        hive.execute(f"ALTER TABLE job CONVERT TO CHARACTER SET {charset}")
    assert run_event(hive, {"type": "x", "genome": "é ελ 😀"})["genome"] == "é ελ 😀"
    assert all(text.isascii() for (text,) in hive.fetch_rows("SELECT input_id FROM job"))


@pytest.mark.parametrize(
    "text", ["#expr(system(q(touch /tmp/p)))expr#", "#db_password#", "#toString:k#", "#expr(", ")expr#"]
)
def test_parameter_substitutions_of_ehive_are_rejected(text: str) -> None:
    job_input = EventBatch.from_conf({"type": "x", "genome": text}).build_job_input(0, "a_run", "a_task")
    with pytest.raises(UnsafeValue, match="event.genome"):
        perl.dumps(job_input)


def test_a_json_input_fails(make_hive: MakeHive) -> None:
    hive = make_hive("sqlite")
    (job_id,) = HiveHook(hive.conn_id).submit("event_dump_dna", ['{"event": {"genome": null}}'])
    hive.run_jobs()
    assert read_outcome(hive, job_id).state is JobState.FAILED


def test_the_fields_of_an_event_are_under_one_key() -> None:
    """At the top level they would override parameters of the analysis and of the pipeline."""
    event = {"type": "x", "genome": "g", "db_conn": "mine"}
    job_input = EventBatch.from_conf(event).build_job_input(0, "a_run", "a_task")
    assert job_input["event"]["db_conn"] == "mine"
    assert set(job_input) == {"event", "event_hooks"}


@pytest.mark.parametrize("value", [True, None, 1.5, 1e-9, 2**70, -(2**63), [1, "x", {}]], ids=repr)
def test_values_of_all_types_are_read(make_hive: MakeHive, value: object) -> None:
    assert run_event(make_hive("sqlite"), {"type": "x", "genome": "g", "value": value})["genome"] == "g"
