"""Events in an argument, a file or standard input."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from event_hooks.cli.input import parse_json_values, read_events

EVENT = {"type": "new_assembly", "genome": "homo_sapiens"}
TEXT = '{"type": "new_assembly",\n "genome": "homo_sapiens"}\n'


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (TEXT, EVENT),
        (f"[{TEXT}, {TEXT}]", [EVENT, EVENT]),
        ('{"type": "a"}\n\n{"type": "b"}\n', [{"type": "a"}, {"type": "b"}]),
        (TEXT + TEXT, [EVENT, EVENT]),
        (f"\ufeff{TEXT}", EVENT),
    ],
    ids=["object", "array", "lines", "objects in a row", "byte order mark"],
)
def test_json_of_any_shape_is_read(text: str, value: object) -> None:
    assert parse_json_values(text, "x") == value


@pytest.mark.parametrize(
    "text",
    ["", " \n", "{", "{'type': 1}", '{"type": NaN}', '{"type": "a"}\n{"type"', "[" * 100_000],
    ids=repr,
)
def test_the_error_names_the_source_of_invalid_json(text: str) -> None:
    with pytest.raises(ValueError, match="^the source: expected JSON"):
        parse_json_values(text, "the source")


def test_events_come_from_a_file_an_argument_or_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "event.json"
    file.write_text(TEXT)
    for source in (str(file), f"@{file}", TEXT):
        assert read_events(source) == EVENT
    for source in ("-", None):
        monkeypatch.setattr("sys.stdin", io.StringIO(TEXT))
        assert read_events(source) == EVENT


def test_the_error_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^event: expected JSON or a file, not '.*none.json': No such file"):
        read_events(str(tmp_path / "none.json"))


def test_a_terminal_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    with pytest.raises(ValueError, match="^event: expected JSON, a file, or JSON on standard input"):
        read_events(None)
