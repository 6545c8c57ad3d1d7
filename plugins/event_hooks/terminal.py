"""Texts of other systems, made safe for a terminal."""

from __future__ import annotations


def escape_text(text: str, *, allowed: str = "") -> str:
    r"""
    Return a text in which characters that are not printable are escapes, as in ``\x1b``.

    So a text cannot move the cursor, change colors or the direction of writing, or add a line.

    :param allowed: characters that stay, such as the newline.
    """
    return "".join(
        character if character.isprintable() or character in allowed else repr(character)[1:-1]
        for character in text
    )
