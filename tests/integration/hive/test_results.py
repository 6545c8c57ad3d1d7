"""Results of pipelines: long ones, and tables that a pipeline has created otherwise."""

from __future__ import annotations

import json

import pytest

from event_hooks.follow_ups.build import build_follow_ups
from event_hooks.hive import reader as reader_module
from event_hooks.hive.sql import results
from event_hooks.hive.sql.job_trees import JobState
from event_hooks.hive.sql.outcomes import JobOutcome
from event_hooks.hive.sql.results import MAX_RESULT_BYTES, MAX_TRUNCATED_CHARS
from tests.integration.hive.conftest import (
    MakeHive,
    open_reader,
    read_outcome,
    record_statements,
    submit_job,
    submit_jobs,
    wait_for_outcomes,
)
from tests.integration.hives import PracticeHive

NOT_SUBMITTED = "events that it returned were not submitted"
AS_TEXT = f"it is stored as text, and {NOT_SUBMITTED}"


def read_outcome_with_output(hive: PracticeHive, output: str | bytes) -> JobOutcome:
    """Return the outcome of a complete job with this text as its result."""
    job_id = submit_job(hive)
    hive.run_jobs()
    hive.execute("UPDATE result SET output = :output", output=output)
    return read_outcome(hive, job_id)


def make_hive_with_column(make_hive: MakeHive, definition: str) -> PracticeHive:
    """Return a hive with this type of the column ``result.output``."""
    hive = make_hive("mysql")
    hive.execute(f"ALTER TABLE result MODIFY output {definition}")
    return hive


@pytest.mark.parametrize(
    ("count", "note"),
    [(450, "x" * 192), (1_000, "αβγ🧬" * 300), (1, "x" * 2**20), (20, "é" * 300_000)],
    ids=["86,000 characters", "1,000 events", "an event of 1 MB", "6 million characters"],
)
def test_all_events_of_a_long_result_are_submitted(make_hive: MakeHive, count: int, note: str) -> None:
    hive = make_hive_with_column(make_hive, "LONGTEXT CHARACTER SET utf8mb4")
    events = [{"type": "new_assembly", "genome": f"g{number}", "note": note} for number in range(count)]
    output = json.dumps({"events": events}, ensure_ascii=False)
    final = read_outcome_with_output(hive, output)
    assert (final.state, final.warning) == (JobState.COMPLETE, None)
    follow_ups = build_follow_ups({"type": "x"}, "run", 0, 1, "dump", final.result, ())
    assert [follow_up.error for follow_up in follow_ups] == [None] * count
    assert [follow_up.payload["genome"] for follow_up in follow_ups] == [event["genome"] for event in events]
    assert follow_ups[-1].payload["note"] == note


def build_json(size: int, character: str = "x") -> str:
    """Return the JSON of a text with this number of bytes, or a few bytes less."""
    return json.dumps(character * ((size - 2) // len(character.encode())), ensure_ascii=False)


@pytest.mark.parametrize("character", ["x", "é", "🧬"])
def test_a_result_is_read_whole_up_to_the_limit(make_hive: MakeHive, character: str) -> None:
    output = build_json(MAX_RESULT_BYTES, character)
    final = read_outcome_with_output(make_hive("sqlite"), output)
    assert final.warning is None
    assert final.result == json.loads(output)


@pytest.mark.parametrize("character", ["x", "🧬"])
def test_a_longer_result_is_truncated_with_a_warning(make_hive: MakeHive, character: str) -> None:
    output = build_json(MAX_RESULT_BYTES, character) + 4 * " "
    final = read_outcome_with_output(make_hive("sqlite"), output)
    assert (final.state, final.result) == (JobState.COMPLETE, output[:MAX_TRUNCATED_CHARS])
    assert final.warning == f"its result is longer than 16,777,216 bytes: {AS_TEXT}"


@pytest.mark.parametrize(
    ("definition", "size", "name"),
    [
        ("TINYTEXT", 255, "TINYTEXT"),
        ("TEXT", 65_535, "TEXT"),
        ("TEXT CHARACTER SET utf8mb4", 65_533, "TEXT"),
        ("MEDIUMTEXT", 2**24 - 1, "MEDIUMTEXT"),
        ("VARCHAR(100)", 100, "VARCHAR"),
    ],
)
def test_a_result_that_fills_its_column_was_truncated(
    make_hive: MakeHive, definition: str, size: int, name: str
) -> None:
    hive = make_hive_with_column(make_hive, definition)
    job_id = submit_job(hive)
    hive.execute("INSERT INTO result (job_id, output) VALUES (:id, '')", id=job_id)
    hive.complete_jobs()
    beginning = '{"events": ['
    hive.execute(
        "UPDATE result SET output = CONCAT(:beginning, REPEAT('1', :count))",
        beginning=beginning,
        count=size - len(beginning),
    )
    final = read_outcome(hive, job_id)
    assert final.state is JobState.COMPLETE
    assert str(final.warning).startswith(f"its result was truncated by the column type {name}")
    assert str(final.warning).endswith(f"(make it LONGTEXT): {AS_TEXT}")


@pytest.mark.parametrize(
    ("definition", "output", "warning"),
    [
        ("TEXT", build_json(65_535), None),
        (
            "LONGTEXT",
            build_json(65_536)[:65_535].replace('"', "["),
            f"its result cannot be parsed as JSON: {AS_TEXT}",
        ),
        ("TEXT", "x" * 65_000, None),
        ("LONGBLOB", build_json(100_000), None),
    ],
    ids=["complete JSON", "a longer column", "a shorter text", "a binary column"],
)
def test_a_result_that_does_not_fill_its_column_or_is_json_was_not_truncated(
    make_hive: MakeHive, definition: str, output: str, warning: str | None
) -> None:
    final = read_outcome_with_output(make_hive_with_column(make_hive, definition), output)
    assert (final.state, final.warning) == (JobState.COMPLETE, warning)
    assert isinstance(final.result, str)


@pytest.mark.parametrize("output", [json.dumps({"events": [{"type": "new_assembly"}]})[:-1], ' ["cut'])
def test_a_result_that_is_not_parsed_is_a_text_with_a_warning(make_hive: MakeHive, output: str) -> None:
    final = read_outcome_with_output(make_hive("sqlite"), output)
    assert (final.state, final.result) == (JobState.COMPLETE, output)
    assert final.warning == f"its result cannot be parsed as JSON: {AS_TEXT}"


def make_hive_with_long_results(make_hive: MakeHive, count: int, size: int) -> tuple[PracticeHive, list[int]]:
    """Return a hive with complete jobs, each with a result of this length."""
    hive = make_hive("sqlite")
    job_ids = submit_jobs(hive, count)
    hive.run_jobs()
    hive.execute("UPDATE result SET output = :output", output=build_json(size))
    return hive, job_ids


def test_a_read_returns_results_of_limited_length_and_the_next_one_continues(
    make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "MAX_BYTES_PER_READ", 250_000)
    hive, job_ids = make_hive_with_long_results(make_hive, 5, 100_000)
    jobs: dict[int, str | None] = dict.fromkeys(job_ids)
    counts = []
    with open_reader(hive) as reader:
        while jobs:
            changes = reader.read_changes((), jobs)
            counts.append((len(changes.outcomes), changes.is_partial))
            for outcome in changes.outcomes:
                del jobs[outcome.job_id]
        final = reader.read_changes((), dict.fromkeys(job_ids), is_final=True)
    assert counts == [(2, True), (2, True), (1, False)]
    assert len(final.outcomes) == 5


def test_a_final_read_without_results_has_the_states(make_hive: MakeHive) -> None:
    hive, job_ids = make_hive_with_long_results(make_hive, 2, 100_000)
    with open_reader(hive) as reader, record_statements() as statements:
        outcomes = reader.read_final_outcomes(dict.fromkeys(job_ids), 0, 3600, has_results=False)
    assert [(outcome.state, outcome.result) for outcome in outcomes] == [(JobState.COMPLETE, None)] * 2
    assert not [statement for statement in statements if "FROM result" in statement]


def test_a_single_result_longer_than_the_limit_of_a_read_is_returned(
    make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "MAX_BYTES_PER_READ", 1)
    hive, job_ids = make_hive_with_long_results(make_hive, 1, 100_000)
    with open_reader(hive) as reader:
        assert len(reader.read_changes((), dict.fromkeys(job_ids)).outcomes) == 1


def test_long_results_are_read_in_statements_of_limited_length(
    make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "MAX_STATEMENT_BYTES", 250_000)
    hive, job_ids = make_hive_with_long_results(make_hive, 5, 100_000)
    with open_reader(hive) as reader, record_statements() as statements:
        assert len(reader.read_changes((), dict.fromkeys(job_ids)).outcomes) == 5
    assert sum("FROM result" in statement for statement in statements) == 1 + 3


@pytest.mark.usefixtures("fast_polling")
async def test_a_wait_gets_all_outcomes_of_several_reads(
    make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "MAX_BYTES_PER_READ", 1)
    hive, job_ids = make_hive_with_long_results(make_hive, 15, 20_000)
    outcomes = await wait_for_outcomes(hive, job_ids)
    assert {outcome.state for outcome in outcomes} == {JobState.COMPLETE}


@pytest.mark.parametrize("column", ["output", "job_id"])
def test_a_result_table_with_other_columns_leaves_the_outcome_with_a_warning(
    hive: PracticeHive, column: str
) -> None:
    job_id = submit_job(hive)
    hive.run_jobs()
    hive.execute(f"ALTER TABLE result RENAME COLUMN {column} TO elsewhere")
    final = read_outcome(hive, job_id)
    assert (final.state, final.result) == (JobState.COMPLETE, None)
    names = "elsewhere, output" if column == "job_id" else "job_id, elsewhere"
    assert final.warning == (
        f"its result cannot be read: the hive's table `result` has the columns {names}, and job_id and output"
        f" were expected: {NOT_SUBMITTED}"
    )


def test_a_failed_job_is_failed_whatever_the_columns_of_the_result_table(hive: PracticeHive) -> None:
    hive.execute("ALTER TABLE result RENAME COLUMN output TO elsewhere")
    job_id = hive.add_job(status="FAILED")
    assert read_outcome(hive, job_id).state is JobState.FAILED


def test_a_progress_table_with_other_columns_has_no_messages(hive: PracticeHive) -> None:
    job_id = submit_job(hive)
    hive.execute("ALTER TABLE job_progress RENAME COLUMN message TO elsewhere")
    with open_reader(hive) as reader:
        (progress,) = reader.read_changes((), {job_id: None}).progress
    assert (progress.total, progress.message) == (1, None)


def test_numbers_of_a_result_that_json_does_not_have_are_texts(hive: PracticeHive) -> None:
    final = read_outcome_with_output(hive, '{"size": NaN, "all": [-Infinity, 1e999, 1.5]}')
    assert (final.result, final.warning) == ({"size": "NaN", "all": ["-Infinity", "1e999", 1.5]}, None)


def test_a_result_that_is_no_json_has_no_warning(hive: PracticeHive) -> None:
    final = read_outcome_with_output(hive, "3 pieces, see [1]")
    assert (final.result, final.warning) == ("3 pieces, see [1]", None)


def test_a_result_that_is_null_is_none(hive: PracticeHive) -> None:
    job_id = submit_job(hive)
    hive.run_jobs()
    hive.execute("UPDATE result SET output = NULL")
    assert read_outcome(hive, job_id) == JobOutcome(job_id, JobState.COMPLETE)
