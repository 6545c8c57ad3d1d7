"""Events as people give them to the command."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from event_hooks.cli.input import parse, read_events

ONE = {"type": "new_assembly", "genome": "homo_sapiens"}
TEXT = '{"type": "new_assembly",\n "genome": "homo_sapiens"}\n'


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (TEXT, ONE),
        (f"[{TEXT}, {TEXT}]", [ONE, ONE]),
        ('{"type": "a"}\n\n{"type": "b"}\n', [{"type": "a"}, {"type": "b"}]),
        (TEXT + TEXT, [ONE, ONE]),
    ],
    ids=["one", "array", "lines", "one after the other"],
)
def test_json_of_any_shape_is_read(text: str, value: object) -> None:
    assert parse(text, "x") == value


@pytest.mark.parametrize(
    "text",
    ["", " \n", "{", "{'type': 1}", '{"type": NaN}', '{"type": "a"}\n{"type"', "[" * 100_000],
    ids=repr,
)
def test_what_is_no_json_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(ValueError, match="^the place: expected JSON"):
        parse(text, "the place")


def test_a_file_text_and_standard_input_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "event.json"
    file.write_text(TEXT)
    for source in (str(file), f"@{file}", TEXT):
        assert read_events(source) == ONE
    for source in ("-", None):
        monkeypatch.setattr("sys.stdin", io.StringIO(TEXT))
        assert read_events(source) == ONE


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^event: expected JSON or a file, not '.*none.json': No such file"):
        read_events(str(tmp_path / "none.json"))


def test_nothing_is_waited_for_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    with pytest.raises(ValueError, match="^event: expected JSON, a file, or something piped in"):
        read_events(None)
