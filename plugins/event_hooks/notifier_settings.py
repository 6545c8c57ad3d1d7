"""The value of the setting `notifiers`: which Airflow notifier is called with which arguments, and when."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from event_hooks.field_path import FieldPath


class NotificationKind(StrEnum):
    """The fact that a notification is about."""

    FAILED = "failed"
    STALLED = "stalled"
    LATE = "late"


class NotifierSettings(BaseModel):
    """One notifier of the setting."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_path: Annotated[str, Field(alias="class", pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
    """Import path of a subclass of Airflow's ``BaseNotifier``."""

    arguments: dict[str, JsonValue] = {}
    """Of its constructor. In texts, ``{subject}``, ``{text}`` and ``{html}`` are replaced by the message."""

    on: Annotated[list[NotificationKind], Field(min_length=1)]


class NotifierInvalid(ValueError):
    """
    The setting is invalid; the message shows no value, because arguments may be secret.

    :param field: path of the invalid field, such as ``notifiers[0].class``.
    :param expected: begins with ``expected``.
    """

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(f"[event_hooks] {field}: {expected}")
        self.field, self.expected = field, expected


_LIST = TypeAdapter(list[NotifierSettings])

_EXPECTED = {
    "missing": "expected a value",
    "extra_forbidden": "expected no such key",
    "string_pattern_mismatch": "expected the import path of a class, such as package.module.Class",
    "too_short": "expected a list that is not empty",
}


def parse_notifiers(text: str) -> list[NotifierSettings]:
    """
    Return the notifiers of the setting, which is a JSON list of objects, or empty.

    :raises NotifierInvalid: names the first invalid field.
    """
    if not text.strip():
        return []
    try:
        return _LIST.validate_python(json.loads(text))
    except ValidationError as error:
        raise _translate_error(error.errors(include_input=False)[0]) from None
    except ValueError as error:
        raise NotifierInvalid("notifiers", f"expected a JSON list of objects: {error}") from None


def _translate_error(error: Mapping[str, Any]) -> NotifierInvalid:
    path = FieldPath("notifiers")
    for step in error["loc"]:
        path = path.child(step)
    expected = _EXPECTED.get(error["type"]) or error["msg"].replace("Input should be", "expected")
    return NotifierInvalid(str(path), expected)
