"""
Mask passwords and other secrets in texts and JSON values that are shown: reports, API, board, mails and logs.

Values that are passed on, such as follow-up events and the inputs of jobs, are never masked. Masking is
deterministic, so a repeated report has the same text.
"""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

MAX_CUT_CHARS = 1000
"""Characters at the end of a truncated text that are searched for the beginning of an address."""

# "pass" alone, or after one of these words: "first_pass" and "compass" are no passwords.
_PASS = r"(?:(?:db|user|mysql|ehive|hive|host|server|admin|root)[_-]?)?pass"
_SECRET = (
    r"(?:password|passwd|passphrase|pwd|secret|token|authorization|credential"
    r"|(?:api|access|private|secret)[_-]?key)s?"
)
_SECRET_KEY = re.compile(rf"[\s_-]*(?:{_PASS}|.*{_SECRET})\s*", re.IGNORECASE | re.DOTALL)
_COUNT_KEY = re.compile(rf"[\s_-]*(?:{_PASS}|.*tokens?)\s*", re.IGNORECASE | re.DOTALL)
"""Keys that may also name a number: of passed checks, or of tokens."""

_WORDS = ("pass", "pwd", "secret", "token", "authorization", "credential", "key")
"""Each name of a secret contains one of these; the search for them is much faster than an expression."""

_OPTION = re.compile(rf"--?(?:{_PASS}|[\w-]*{_SECRET})", re.IGNORECASE)

# Each loop is possessive or has a bound, otherwise the search in a long text would take minutes.
_QUOTE = r"""\\{0,3}["']"""
_SPACE = r"\s{0,9}"
_ASSIGNED_SECRET = re.compile(
    rf"(?<![\w.-])(?P<name>(?P<dash>--?)?(?:{_PASS}|(?:\w[\w.-]{{0,40}}?)??{_SECRET}))"
    rf"(?P<separator>(?:{_QUOTE})?{_SPACE}(?:=>|=(?!=)){_SPACE}|{_QUOTE}{_SPACE}:{_SPACE}"
    rf"|(?:(?<=password)|(?<=passwd)|(?<=authorization)):{_SPACE}"
    rf"|(?(dash)(?:\s{{1,9}}|{_QUOTE}{_SPACE},{_SPACE})|(?!)))"
    rf"(?P<quote>{_QUOTE})?(?P<value>(?:(?:bearer|basic|token)\s{{1,9}})?"
    rf"(?(quote)(?:(?!(?P=quote))(?:\\.|[^\n\\]))++|(?!{_QUOTE})[^\s\"',;&)}}\]]++))",
    re.IGNORECASE,
)
# MySQL's error message has "(using password: YES)".
_NO_SECRET = re.compile(r"yes|no|null|none|true|false|undef|[\[{].*|/.*", re.IGNORECASE)
_NUMBER = re.compile(r"-?[0-9.]+")

# A password may contain "@" and "/": it ends at the last "@" before a space, a quotation mark or another
# address. The number in "http://host:8080/x@y" is a port.
_USER = r"""://[^\s:/@"']{0,100}:"""
_URL_PASSWORD = re.compile(rf"""({_USER})((?:(?:(?!://)[^\s@"'])*+@)++)""")
_PORT = re.compile("[0-9]{1,5}[/?#]")
# At the end of a truncated text
_CUT_URL_PASSWORD = re.compile(rf"({_USER})(?![0-9]{{1,5}}(?:[/?#]|\Z))[^\s@]{{1,1000}}\Z")

_CLIENT_COMMAND = re.compile(r"\b(?:mysql|mariadb)(?:-?(?:dump|admin|import|check))?\s[^\n]{0,1000}")
_CLIENT_PASSWORD = re.compile(r"""(?<=\s-p)(?!ort\b|ass)[^\s"']++""")


def mask_secrets(value: Any) -> Any:
    """
    Replace the secrets in a JSON value by ``***``: the values of keys such as ``password``, and in texts.

    Lone surrogates are replaced as well, by :func:`replace_surrogates`.
    """
    match value:
        case str():
            return mask_text(value)
        case list() | tuple():
            return [
                MASK if index and _is_option(value[index - 1]) and item else mask_secrets(item)
                for index, item in enumerate(value)
            ]
        case dict():
            return {
                replace_surrogates(key): MASK if _is_secret(key, item) else mask_secrets(item)
                for key, item in value.items()
            }
        case _:
            return value


def mask_text(text: str) -> str:
    """
    Replace the secrets in a text by ``***``: passwords of addresses and options, and values of such keys.

    The text may be truncated inside of an address.
    """
    text = replace_surrogates(text)
    if "://" in text:
        text = _mask_urls(text)
    if "mysql" in text or "mariadb" in text:
        text = _CLIENT_COMMAND.sub(lambda match: _CLIENT_PASSWORD.sub(MASK, match[0]), text)
    return _ASSIGNED_SECRET.sub(_mask_assignment, text) if _has_word(text) else text


def _mask_urls(text: str) -> str:
    text = _URL_PASSWORD.sub(_mask_url, text)
    if match := _CUT_URL_PASSWORD.search(text, max(0, len(text) - MAX_CUT_CHARS)):
        text = f"{text[: match.start()]}{match[1]}{MASK}"
    return text


def replace_surrogates(value: Any) -> Any:
    """
    Replace the lone surrogates in all texts and keys of a JSON value by ``?``.

    JSON may contain them, but no HTTP response, page or database accepts them.
    """
    match value:
        case str():
            return value if value.isascii() else value.encode("utf-8", "replace").decode()
        case list():
            return [replace_surrogates(item) for item in value]
        case dict():
            return {replace_surrogates(key): replace_surrogates(item) for key, item in value.items()}
        case _:
            return value


def _has_word(text: str) -> bool:
    lower = text.lower()
    return any(word in lower for word in _WORDS)


def _is_secret(key: object, value: object) -> bool:
    if (
        not isinstance(key, str)
        or not _has_word(key)
        or value is None
        or value == ""
        or isinstance(value, bool)
    ):
        return False
    return bool(_SECRET_KEY.fullmatch(key)) and (isinstance(value, str) or not _COUNT_KEY.fullmatch(key))


def _is_option(item: object) -> bool:
    """Return whether an item of a command line is an option with a secret as its argument."""
    return isinstance(item, str) and item.startswith("-") and bool(_OPTION.fullmatch(item))


def _mask_url(match: re.Match[str]) -> str:
    scheme = match.string[max(0, match.start() - 5) : match.start()].lower()
    is_port = scheme.endswith(("http", "https")) and _PORT.match(match[2])
    return match[0] if is_port else f"{match[1]}{MASK}@"


def _mask_assignment(match: re.Match[str]) -> str:
    is_count = _COUNT_KEY.fullmatch(match["name"]) and not match["dash"] and _NUMBER.fullmatch(match["value"])
    if not match["quote"] and (is_count or _NO_SECRET.fullmatch(match["value"])):
        return match[0]
    return f"{match['name']}{match['separator']}{match['quote'] or ''}{MASK}"
