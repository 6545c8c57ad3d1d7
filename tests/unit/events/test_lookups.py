from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from event_hooks import settings
from event_hooks.events import lookups
from event_hooks.events.models import EventBatch
from event_hooks.exceptions import EventInvalid, LookupInvalid, UnsafeValue
from event_hooks.hive.connection import resolve_hive
from event_hooks.process_event import planning

EVENTS = {"new_assembly": ["dump_dna", "dump_peptide"], "new_genebuild": ["dump_peptide"], "other": []}
OLD_URI = "mysql://user:secret_word@localhost:3306/event_handling"
PROCESSES: dict[str, Any] = {
    "dump_dna": {"analysis": "event_dump_dna", "hive_uri": OLD_URI},
    "dump_peptide": {"analysis": "event_dump_peptide", "hive_conn_id": "hive_event_handling"},
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two valid lookup files, named in the settings."""
    paths = tmp_path / "events.json", tmp_path / "processes.json"
    for path, content in zip(paths, (EVENTS, PROCESSES), strict=True):
        path.write_text(json.dumps(content))
    monkeypatch.setenv("EVENT_LOOKUP", str(paths[0]))
    monkeypatch.setenv("PROCESS_LOOKUP_FILE", str(paths[1]))
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__LOOKUP_CACHE_DIR", str(tmp_path / "cache"))
    return paths


def test_our_own_lookups_are_valid() -> None:
    loaded = lookups.load(settings.event_lookup(), settings.process_lookup())
    assert all(process.hive_conn_id and not process.hive_uri for process in loaded.processes.values())


def test_files_of_the_flask_app_are_accepted(files: tuple[Path, Path]) -> None:
    loaded = lookups.load(*files)
    assert loaded.processes["dump_dna"].hive_conn_id == "lookup:dump_dna"
    assert lookups.find_hive_uri("lookup:dump_dna") == OLD_URI
    assert lookups.find_hive_uri("hive_event_handling") is None
    assert "secret_word" not in repr(loaded) + str(loaded.model_dump())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_may_begin_with_a_byte_order_mark(files: tuple[Path, Path], encoding: str) -> None:
    expected = lookups.load(*files)
    for file in files:
        file.write_text(file.read_text(), encoding)
    assert lookups.load(*files) == lookups.load_with_fallback() == expected


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_a_file_in_another_encoding_is_an_error(files: tuple[Path, Path], encoding: str) -> None:
    files[0].write_text('{"new_assembly": [], "caf\u00e9": []}', encoding)
    with pytest.raises(LookupInvalid, match="expected JSON: 'utf-8' codec can't decode"):
        lookups.load(*files)


def test_a_batch_is_grouped_by_process(files: tuple[Path, Path]) -> None:
    names = ("new_genebuild", "new_assembly", "other")
    batch = EventBatch.from_conf({"events": [{"type": name} for name in names]})
    assert planning.plan_batch(batch, lookups.load(*files)) == {"dump_peptide": [0, 1], "dump_dna": [1]}


def test_the_error_of_an_unknown_type_lists_the_known_types(files: tuple[Path, Path]) -> None:
    batch = EventBatch.from_conf({"events": [{"type": "other"}, {"type": "new_asembly"}]})
    expected = r"^events\[1\].type: expected one of new_assembly, new_genebuild, other, not 'new_asembly'"
    with pytest.raises(EventInvalid, match=expected):
        planning.plan_batch(batch, lookups.load(*files))


def test_planning_rejects_a_value_that_a_hive_would_run_as_code(files: tuple[Path, Path]) -> None:
    batch = EventBatch.from_conf({"type": "other", "comment": "#db_password#"})
    with pytest.raises(UnsafeValue, match=r"^comment: expected no '#db_password#'"):
        planning.plan_batch(batch, lookups.load(*files))


@pytest.mark.parametrize(
    ("which", "content", "message"),
    [
        (0, "{", "events.json: the whole file: expected JSON: "),
        (0, '["x"]', "events.json: the whole file: expected object, not list"),
        (0, "{}", "events.json: the whole file: expected at least one entry"),
        (0, '{"x": [], "x": []}', "events.json: x: expected once, found twice"),
        (0, '{"x": "dump_dna"}', "events.json: x: expected array, not str"),
        (
            0,
            '{"x": ["dump_rna"]}',
            r"events.json: x\[0\]: expected a process of the process lookup, not 'dump_rna'",
        ),
        (
            1,
            '{"dump_dna": {"hive_conn_id": "h"}}',
            "processes.json: dump_dna: 'analysis' is a required property",
        ),
        (
            1,
            '{"dump_dna": {"analysis": "a"}}',
            "processes.json: dump_dna: expected either hive_conn_id or hive_uri",
        ),
        (1, '{"dump_dna": "x"}', "processes.json: dump_dna: expected object, not str"),
        (
            1,
            '{"route": {"analysis": "a", "hive_conn_id": "h"}}',
            "processes.json: route: expected a text like",
        ),
        (1, '{"a b": {"analysis": "a", "hive_conn_id": "h"}}', "processes.json: a b: expected a text like"),
        (
            1,
            '{"dump_dna": {"analysis": "a", "hive_conn_id": "h", "colour": 1}}',
            "processes.json: dump_dna: .*'colour'",
        ),
    ],
)
def test_the_error_of_an_invalid_lookup_names_file_and_key(
    files: tuple[Path, Path], which: int, content: str, message: str
) -> None:
    files[which].write_text(content)
    with pytest.raises(LookupInvalid, match=message):
        lookups.load(*files)


def test_the_error_of_a_missing_file_names_it(tmp_path: Path, files: tuple[Path, Path]) -> None:
    with pytest.raises(LookupInvalid, match=r"none.json: the whole file: cannot be read: No such file"):
        lookups.load(files[0], tmp_path / "none.json")


@pytest.mark.parametrize(
    ("process", "fields"),
    [
        ("dump_dna\n", {}),
        ("route\n", {}),
        ("dump_dna", {"hive_conn_id": "hive\n"}),
        ("dump_dna", {"guihive": "http://localhost\n"}),
        ("dump_dna", {"job_timeout": 1e308}),
        ("dump_dna", {"ready_timeout": 31_536_001}),
        ("dump_dna", {"deadline": 1e9}),
    ],
)
def test_a_line_break_at_the_end_and_a_huge_number_are_rejected(
    files: tuple[Path, Path], process: str, fields: dict[str, Any]
) -> None:
    files[0].write_text(json.dumps({"x": [process]}))
    files[1].write_text(json.dumps({process: {"analysis": "a", "hive_conn_id": "h", **fields}}))
    with pytest.raises(
        LookupInvalid, match=r"expected a text like .*\$, not|expected a number of at most 31536000"
    ):
        lookups.load(*files)


def test_a_type_with_a_line_break_at_its_end_is_rejected(files: tuple[Path, Path]) -> None:
    files[0].write_text('{"new_assembly\\n": []}')
    with pytest.raises(LookupInvalid, match="expected a text like"):
        lookups.load(*files)


def test_callers_of_the_api_see_no_folder(files: tuple[Path, Path]) -> None:
    files[0].write_text("{")
    with pytest.raises(LookupInvalid) as caught:
        lookups.load(*files)
    assert str(files[0].parent) in str(caught.value)
    assert caught.value.public_message.startswith("events.json: the whole file: expected JSON")


@pytest.mark.parametrize("password", ["sec#ret", "sec?ret", "sec%20ret", "sec:ret"])
def test_a_password_may_contain_any_character(files: tuple[Path, Path], password: str) -> None:
    uri = f"mysql://user:{password}@localhost:3306/hive"
    files[1].write_text(json.dumps({**PROCESSES, "dump_dna": {"analysis": "a", "hive_uri": uri}}))
    lookups.load(*files)
    url, _ = resolve_hive("lookup:dump_dna")
    assert (url.password, url.port, url.database) == (unquote(password), 3306, "hive")


def test_concurrent_writers_of_the_cache_leave_one_valid_file(files: tuple[Path, Path]) -> None:
    def write(number: int) -> None:
        lookups._write_cache(
            settings.lookup_cache_dir() / "lookups.json", json.dumps([EVENTS, PROCESSES]) + " " * number
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(200)))
    files[0].write_text("{")
    assert set(lookups.load_with_fallback().processes) == set(PROCESSES)
    assert len(list(settings.lookup_cache_dir().iterdir())) == 1


@pytest.mark.parametrize("uri", ["mysql://user:secret_word@host:port/db", "mysql://user:secret_word@host"])
def test_the_error_of_an_incomplete_uri_hides_its_password(files: tuple[Path, Path], uri: str) -> None:
    files[1].write_text(json.dumps({**PROCESSES, "dump_dna": {"analysis": "a", "hive_uri": uri}}))
    with pytest.raises(LookupInvalid, match="dump_dna.hive_uri: expected mysql://user") as caught:
        lookups.load(*files)
    assert "secret_word" not in str(caught.value)


def test_the_error_of_an_unsupported_uri_hides_its_password(files: tuple[Path, Path]) -> None:
    files[1].write_text('{"dump_dna": {"analysis": "a", "hive_uri": "http://user:secret_word@host/db"}}')
    with pytest.raises(LookupInvalid, match="dump_dna.hive_uri: expected mysql://user") as caught:
        lookups.load(*files)
    assert "secret_word" not in str(caught.value)


def test_invalid_files_fall_back_to_the_last_valid_lookups(files: tuple[Path, Path]) -> None:
    valid = lookups.load_with_fallback()
    files[0].write_text("{")
    assert lookups.load_with_fallback() == valid
    assert lookups.find_hive_uri("lookup:dump_dna") == OLD_URI


def test_the_files_are_read_once_for_many_uris(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    parse_file = lookups._parse_file
    monkeypatch.setattr(lookups, "_parse_file", lambda file: (read.append(file), parse_file(file))[1])
    assert {lookups.find_hive_uri("lookup:dump_dna") for _ in range(20)} == {OLD_URI}
    assert sorted(read) == sorted(files)
    new_uri = OLD_URI.replace("secret_word", "new_word")
    files[1].write_text(json.dumps({**PROCESSES, "dump_dna": {"analysis": "a", "hive_uri": new_uri}}))
    assert lookups.find_hive_uri("lookup:dump_dna") == new_uri


def test_invalid_files_without_a_cached_copy_are_an_error(files: tuple[Path, Path]) -> None:
    files[0].write_text("{")
    with pytest.raises(LookupInvalid, match=r"events.json: the whole file: expected JSON"):
        lookups.load_with_fallback()


def test_only_its_user_can_read_the_cached_copy(files: tuple[Path, Path]) -> None:
    lookups.load_with_fallback()
    cache_dir = settings.lookup_cache_dir()
    assert [oct(path.stat().st_mode)[-3:] for path in (cache_dir, *sorted(cache_dir.iterdir()))] == [
        "700",
        "600",
    ]


@pytest.mark.parametrize(
    "rest", ["p@secret_word@host/db", "p@x/secret_word@host/db", "p@x?secret_word@host/db"]
)
def test_a_uri_whose_password_is_ambiguous_is_rejected_without_showing_it(
    files: tuple[Path, Path], rest: str
) -> None:
    uri = f"mysql://me:{rest}"
    files[1].write_text(json.dumps({**PROCESSES, "dump_dna": {"analysis": "a", "hive_uri": uri}}))
    with pytest.raises(
        LookupInvalid, match="dump_dna.hive_uri: expected .*percent-encode .* as %40"
    ) as caught:
        lookups.load(*files)
    assert not any(part in str(caught.value) for part in ("secret_word", "me:", "p@"))
