"""The path of a field in a JSON value, for error messages."""

from __future__ import annotations

MAX_CHARACTERS = 200
"""Longer paths are cut: a key may have a megabyte."""


class FieldPath:
    """
    A field, by the steps from the value to it; its text is built only for a message.

    With a text for each field, a long key before a long list would take a time that is quadratic.

    :param step: a key, or the index of an item.
    :param parent: the field that contains this one.
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
        steps: list[str] = []
        field: FieldPath | None = self
        while field is not None:
            steps.append(f"[{field._step}]" if isinstance(field._step, int) else f".{field._step}")
            field = field._parent
        path = "".join(reversed(steps)).lstrip(".")
        return path if len(path) <= MAX_CHARACTERS else f"{path[:MAX_CHARACTERS]}…"
