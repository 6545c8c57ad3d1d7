"""The commands, examples and links of the documentation."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from event_hooks.events import lookups
from tests.conftest import CHECKOUT

DOCS = CHECKOUT / "docs"
TOP_DOCUMENTS = [CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS = [*TOP_DOCUMENTS, *sorted(DOCS.rglob("*.md"))]
SECRET = re.compile(r"\$\{?\w*(PASSWORD|TOKEN|SECRET|AIRFLOW_CONN)\w*")
NOT_IN_PROCESS_LIST = re.compile(r"""(\bprintf [^|]*|<<< "[^"]*|\b\w+="?)$""")
"""What precedes a secret that is no argument: printf of the shell, a here-string, an assignment."""

LINK = re.compile(r"\]\(([^)\s]+)\)")
JSON_BLOCK = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def find_secrets_in_arguments(text: str) -> list[str]:
    """Return the lines with a secret that a command has as argument."""
    return [
        line
        for line in text.splitlines()
        for match in SECRET.finditer(line)
        if not NOT_IN_PROCESS_LIST.search(line[: match.start()])
    ]


def find_broken_links(document: Path) -> list[str]:
    """Return the relative links to files or headings that do not exist."""
    targets = [link.partition("#") for link in LINK.findall(document.read_text()) if "://" not in link]
    return [
        path + mark + anchor
        for path, mark, anchor in targets
        if not (file := document.parent / path if path else document).exists()
        or (anchor and anchor not in list_anchors(file))
    ]


def list_anchors(document: Path) -> list[str]:
    """Return the anchors of the headings, as GitHub builds them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def read_json_blocks(document: Path) -> list[Any]:
    """Return the JSON blocks, without abbreviated ones."""
    return [json.loads(block) for block in JSON_BLOCK.findall(document.read_text()) if "…" not in block]


def document_id(document: Path) -> str:
    """Return the path of a document in the checkout."""
    return str(document.relative_to(CHECKOUT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=document_id)
def test_no_command_has_a_password_as_argument(document: Path) -> None:
    assert find_secrets_in_arguments(document.read_text()) == []


@pytest.mark.parametrize(
    ("line", "is_visible"),
    [
        ('curl -H "Authorization: Bearer $TOKEN" address', True),
        ("mysqladmin ping -p$MYSQL_PASSWORD", True),
        ('pg_dump "$AIRFLOW_CONN_EVENT_LEDGER"', True),
        ('curl -H @- address <<< "Authorization: Bearer $TOKEN"', False),
        ("printf '%s' \"$ADMIN_PASSWORD\" | curl -d @- address", False),
        ("printf x | curl -d $ADMIN_PASSWORD address", True),
        ('MYSQL_PWD="$MYSQL_ROOT_PASSWORD" mysql', False),
    ],
)
def test_a_password_in_an_argument_is_found(line: str, is_visible: bool) -> None:
    assert bool(find_secrets_in_arguments(line)) == is_visible


@pytest.mark.parametrize("document", TOP_DOCUMENTS, ids=document_id)
def test_no_link_is_broken(document: Path) -> None:
    assert find_broken_links(document) == []


def test_a_link_to_a_missing_file_or_heading_is_broken(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(
        "# A title: one\n[a](#a-title-one) [b](#two) [c](page.md#three) [d](no.md) [e](http://x)"
    )
    assert find_broken_links(document) == ["#two", "page.md#three", "no.md"]


def test_the_site_builds_and_has_no_broken_link(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    process = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=document_id)
def test_json_blocks_are_json(document: Path) -> None:
    read_json_blocks(document)


@pytest.mark.parametrize("document", ["README.md", "docs/reference/lookups.md"])
def test_the_examples_of_lookups_are_valid(document: str, tmp_path: Path) -> None:
    blocks = [block for block in read_json_blocks(CHECKOUT / document) if isinstance(block, dict)]
    *event_lookups, process_lookup = [
        block for block in blocks if {type(value) for value in block.values()} in ({list}, {dict})
    ]
    assert event_lookups
    (tmp_path / "processes.json").write_text(json.dumps(process_lookup))
    for event_lookup in event_lookups:
        (tmp_path / "events.json").write_text(json.dumps(event_lookup))
        assert lookups.load(tmp_path / "events.json", tmp_path / "processes.json").processes
