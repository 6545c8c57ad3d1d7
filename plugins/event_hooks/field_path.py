"""The path of a field in a JSON value, for error messages."""

from __future__ import annotations

MAX_CHARACTERS = 200
"""Longer paths are cut: a key may have a megabyte."""


class FieldPath:
    """
    A field, by the steps from the value to it; its text is built only for a message.

    With a text for each field, a long key before a long list would take a time that is quadratic.

    :param step: a key, or the index of an item; of the value itself, its name, which may be empty.
    :param parent: the field that contains this one; ``None`` for the value itself.
    """

    __slots__ = ("_parent", "_step")

    def __init__(self, step: str | int = "", parent: FieldPath | None = None) -> None:
        self._step = step
        self._parent = parent

    def child(self, step: str | int) -> FieldPath:
        """Return a field inside this one."""
        return FieldPath(step, self)

    def __str__(self) -> str:
        """Return the path, such as ``events[3].genome``."""
        name, *steps = self._list_steps()
        texts = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps]
        return _truncate(f"{name}{''.join(texts)}".removeprefix("."))

    @property
    def pointer(self) -> str:
        """The JSON pointer (RFC 6901), such as ``/3/genome``, without the name of the value itself."""
        steps = [str(step).replace("~", "~0").replace("/", "~1") for step in self._list_steps()[1:]]
        return _truncate("".join(f"/{step}" for step in steps))

    def _list_steps(self) -> list[str | int]:
        """Return the steps from the value to the field; the first is the name of the value."""
        steps: list[str | int] = []
        field: FieldPath | None = self
        while field is not None:
            steps.append(field._step)
            field = field._parent
        return steps[::-1]


def _truncate(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"
