"""Reject addresses with an ambiguous password: a part of it would be read as a host, and shown in errors."""

from __future__ import annotations

import re

ADVICE = "percent-encode @, #, / and ? in its user and password as %40, %23, %2F and %3F"

_ADDRESS = re.compile(
    r"""[a-z][a-z0-9+.-]*://
    (?:[^@:/?#\[\]\s]*(?::[^@/?#\[\]\s]*)?@)?      # user and password
    (?:\[[0-9a-f:.]+\]|[^@:/?#\[\]\s]*)    # host
    (?::[0-9]*)?
    (?:[/?][^@#]*)?                        # path and query""",
    re.IGNORECASE | re.VERBOSE,
)


def is_unambiguous(address: str) -> bool:
    """Return whether all parsers read the same user, password and host in an address."""
    return bool(_ADDRESS.fullmatch(address))


def has_single_at(address: str) -> bool:
    """
    Return whether an address has at most one ``@``, or is that of a file, such as ``sqlite:///file``.

    SQLAlchemy accepts any other character in a password.
    """
    rest = address.partition("://")[2]
    return rest.startswith("/") or rest.count("@") <= 1
