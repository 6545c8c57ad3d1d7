"""``input_id`` is Perl code; here a real perl evaluates it, as eHive's workers do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from event_hooks.events.models import EventBatch
from event_hooks.exceptions import UnsafeValue
from event_hooks.hive import perl
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.sql.job_trees import State
from tests.integration.hive.conftest import MakeHive, outcome
from tests.integration.hives import PracticeHive


def ended(hive: PracticeHive, event: dict[str, Any]) -> Any:
    """Give the result of a job for this event."""
    job_input = EventBatch.from_conf(event).build_job_input(0, "a_run", "a_task")
    (job_id,) = HiveHook(hive.conn_id).submit("event_dump_dna", [perl.dumps(job_input)])
    hive.work()
    over = outcome(hive, job_id)
    assert over.state is State.COMPLETE, over.error
    return over.result


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
    result = ended(make_hive("sqlite"), {"type": "new_assembly", "genome": text})
    assert result["genome"] == text
    assert list(tmp_path.iterdir()) == []


def test_an_exploit_in_a_key_is_data(make_hive: MakeHive, tmp_path: Path) -> None:
    key = f'a" => system(q(touch {tmp_path}/made_by_perl)), "b'
    assert ended(make_hive("sqlite"), {"type": "x", "genome": "g", key: {key: 1}})["genome"] == "g"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["x@y.z", "$5", "C:\\new", "rev\\101", "a\\LBIG", "C# and #1", "end \\"])
def test_special_characters_of_perl_are_unchanged(make_hive: MakeHive, text: str) -> None:
    assert ended(make_hive("sqlite"), {"type": "x", "genome": text})["genome"] == text


@pytest.mark.parametrize("charset", ["latin1", "utf8mb4"])
def test_non_latin1_characters_pass_through_the_input_column(make_hive: MakeHive, charset: str) -> None:
    hive = make_hive("mysql")
    if charset != "latin1":  # which it has already
        hive.change(f"ALTER TABLE job CONVERT TO CHARACTER SET {charset}")
    assert ended(hive, {"type": "x", "genome": "é ελ 😀"})["genome"] == "é ελ 😀"
    assert all(text.isascii() for (text,) in hive.rows("SELECT input_id FROM job"))


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
    hive.work()
    assert outcome(hive, job_id).state is State.FAILED


def test_the_fields_of_an_event_are_under_one_key() -> None:
    """On top they would override parameters of the analysis, and of the pipeline."""
    event = {"type": "x", "genome": "g", "db_conn": "mine"}
    job_input = EventBatch.from_conf(event).build_job_input(0, "a_run", "a_task")
    assert job_input["event"]["db_conn"] == "mine"
    assert set(job_input) == {"event", "event_hooks"}


@pytest.mark.parametrize("value", [True, None, 1.5, 1e-9, 2**70, -(2**63), [1, "x", {}]], ids=repr)
def test_values_of_all_types_are_read(make_hive: MakeHive, value: object) -> None:
    assert ended(make_hive("sqlite"), {"type": "x", "genome": "g", "value": value})["genome"] == "g"
