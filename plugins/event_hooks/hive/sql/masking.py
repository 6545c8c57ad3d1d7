"""Clean texts of a hive before they are published: mask passwords, replace lone surrogates."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# Lengths are bounded: without a bound, the search in a long text without spaces takes minutes.
_PASSWORD = re.compile(
    r"""(?P<url>://[^\s:/@"']{0,100}:)[^\s"'/]{1,200}(?P<at>@)
    |(?P<option>(?:-pass(?:word)?["']?\s{0,9}(?:=>|[=:,])?|\bpass(?:word)?["']?\s{0,9}(?:=>|[=:]))\s{0,9}["']?)
    [^\s"',;)]{1,200}""",
    re.IGNORECASE | re.VERBOSE,
)


def mask_passwords(value: Any) -> Any:
    """
    Replace the passwords of URLs and options in all texts of a JSON value by ``***``, and lone surrogates.

    eHive's own messages contain the URL of the database with its password.
    """
    return _clean_texts(value, lambda text: _PASSWORD.sub(r"\g<url>\g<option>***\g<at>", text))


def replace_surrogates(value: Any) -> Any:
    """
    Replace the lone surrogates in all texts of a JSON value by ``?``.

    JSON may contain them, but no HTTP response, page or database accepts them.
    """
    return _clean_texts(value, str)


def _clean_texts(value: Any, clean: Callable[[str], str]) -> Any:
    """Apply a function to all texts of a JSON value except keys; replace surrogates in texts and keys."""
    match value:
        case str():
            return _encodable(clean(value))
        case list():
            return [_clean_texts(item, clean) for item in value]
        case dict():
            return {_encodable(key): _clean_texts(item, clean) for key, item in value.items()}
        case _:
            return value


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
