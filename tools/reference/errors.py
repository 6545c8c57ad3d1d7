"""The classes of errors, from ``event_hooks.exceptions``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from airflow.sdk.exceptions import AirflowFailException

from event_hooks.exceptions import EventHooksError
from tools.reference.markdown import convert_text, format_table


def render_error_classes() -> str:
    """Return a table of all classes, each below its base class."""
    rows = [
        (
            f"`{error_class.__name__}`",
            f"`{error_class.__bases__[0].__name__}`",
            convert_text(inspect.cleandoc(error_class.__doc__ or "").partition("\n\n")[0]),
            "no" if issubclass(error_class, AirflowFailException) else "yes",
        )
        for error_class in _list_subclasses(EventHooksError)
    ]
    return format_table(("Class", "Base class", "Meaning", "Airflow retries the task"), rows)


def _list_subclasses(error_class: type[EventHooksError]) -> Iterator[type[EventHooksError]]:
    # Tests may define further classes.
    for subclass in error_class.__subclasses__():
        if subclass.__module__ == EventHooksError.__module__:
            yield subclass
            yield from _list_subclasses(subclass)
