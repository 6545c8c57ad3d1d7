"""The commands of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

DOCUMENTS = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
SECRET = re.compile(r"\$\{?\w*(PASSWORD|TOKEN|SECRET|AIRFLOW_CONN)\w*")
NOT_IN_PROCESS_LIST = re.compile(r"""(\bprintf [^|]*|<<< "[^"]*|\b\w+="?)$""")
"""What precedes a secret that is no argument: printf of the shell, a here-string, an assignment."""


def find_secrets_in_arguments(text: str) -> list[str]:
    """Return the lines with a secret that a command has as argument."""
    return [
        line
        for line in text.splitlines()
        for match in SECRET.finditer(line)
        if not NOT_IN_PROCESS_LIST.search(line[: match.start()])
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
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
