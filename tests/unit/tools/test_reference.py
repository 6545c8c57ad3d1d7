"""The generated blocks of the reference pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from event_hooks.ledger.records import ProcessState
from event_hooks.ledger.views import EventState
from event_hooks.reports.builder import ReportStep
from tests.conftest import CHECKOUT
from tools.reference import markdown, pages, schema
from tools.reference.reports import CASES

PAGES = sorted((CHECKOUT / "docs" / "reference").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_has_the_present_declarations(page: Path) -> None:
    text = page.read_text()
    assert pages.render_page(text) == text, "out of date: make reference"


def test_each_declaration_is_on_one_page() -> None:
    blocks = [name for page in PAGES for name in pages.list_blocks(page.read_text())]
    assert sorted(blocks) == sorted(pages.RENDERERS)


def test_a_block_of_unknown_name_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"generated: expected one of api_operations, .* not 'setings'"):
        pages.render_page("<!-- generated: setings -->\n<!-- end -->\n")


def test_text_around_a_block_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "RENDERERS", {"numbers": lambda: "one\n\ntwo"})
    page = "before\n\n<!-- generated: numbers -->\nold\n<!-- end -->\n\nafter\n"
    expected = "before\n\n<!-- generated: numbers -->\n\none\n\ntwo\n\n<!-- end -->\n\nafter\n"
    assert pages.render_page(page) == expected
    assert pages.render_page(expected) == expected


def test_each_step_has_an_example() -> None:
    assert {step for step, _, _ in CASES} == set(ReportStep)


@pytest.mark.parametrize(("heading", "states"), [("## Event\n", EventState), ("## Process\n", ProcessState)])
def test_the_page_of_states_explains_all_states(heading: str, states: type[EventState]) -> None:
    text = (CHECKOUT / "docs" / "reference" / "states.md").read_text()
    table = text[text.index(heading) :].partition("| --- |")[2].partition("\n\n")[0]
    assert {line.split("`")[1] for line in table.splitlines()[1:]} == set(states)


def test_a_cell_of_a_table_ends_only_at_its_column() -> None:
    table = markdown.format_table(("A", "B"), [("`a|b`", "two\nlines"), ("", "c")])
    assert table.splitlines() == ["| A | B |", "| --- | --- |", r"| `a\|b` | two lines |", "| | c |"]


def test_a_docstring_becomes_markdown() -> None:
    docstring = """
    Return :meth:`~a.b` of ``c``.

    :param event_id: as in
        :class:`Event`.
    :return: a number.
    :raises ValueError: it is <0.
    """
    assert markdown.convert_docstring(docstring) == (
        "Return `a.b` of `c`.\n\n- `event_id`: as in `Event`.\n- Returns: a number.\n"
        "- Raises `ValueError`: it is &lt;0."
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"type": "array", "items": {"$ref": "#/components/schemas/Event"}}, "list of [Event](#event)"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string or null"),
        ({"enum": ["run", "alert"]}, "`run` or `alert`"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "object of integer"),
        ({}, "any value"),
    ],
)
def test_the_type_of_a_value_is_described(value: schema.Schema, text: str) -> None:
    assert schema.describe_type(value) == text


def test_limits_and_default_are_described() -> None:
    value = {"description": "Jobs.", "minimum": 1, "maximum": 1000, "default": 1000}
    assert schema.describe(value) == "Jobs. (at most 1,000; default: `1000`)"
