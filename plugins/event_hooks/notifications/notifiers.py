"""Airflow's notifiers, as the setting `notifiers` configures them."""

from __future__ import annotations

import inspect
import logging
import pkgutil
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.notifier import BaseNotifier

from event_hooks import settings
from event_hooks.masking import mask_text
from event_hooks.notifications.message import Message
from event_hooks.notifier_settings import NotifierInvalid

if TYPE_CHECKING:
    from event_hooks.notifier_settings import NotificationKind, NotifierSettings

log = logging.getLogger(__name__)

DEFAULT_ARGUMENTS = {"subject": "{subject}", "html_content": "{html}", "text": "{text}"}
"""Arguments of a class that has parameters of these names, unless the setting has them."""

_PLACEHOLDER = re.compile(r"\{(subject|text|html)\}")

_SAMPLE = Message("subject", "text", "html")


def list_notifiers(kind: NotificationKind) -> list[int]:
    """Return the positions of the notifiers for a kind; an invalid setting is logged, and has no notifier."""
    try:
        configured = settings.notifiers()
    except ValueError:
        # The fact is recorded nevertheless; `maintain_ledger` fails with the same error.
        log.exception("No notification about a process that is %s", kind)
        return []
    return [position for position, notifier in enumerate(configured) if kind in notifier.on]


def build_notifier(position: int, configured: NotifierSettings, message: Message) -> BaseNotifier:
    """
    Return a notifier for a message; call its method ``notify``.

    Do not call the notifier itself: it would render its attributes as Jinja templates, and a message contains
    texts of events.

    :param position: in the setting.
    :raises NotifierInvalid: the class cannot be imported, or its constructor rejects the arguments.
    """
    path = f"notifiers[{position}]"
    notifier_class = _import_class(f"{path}.class", configured.class_path)
    arguments = _add_defaults(notifier_class, configured.arguments)
    if not _has_placeholder(arguments):
        expected = "expected {subject}, {text} or {html} in an argument: the message would have no content"
        raise NotifierInvalid(f"{path}.arguments", expected)
    try:
        return notifier_class(**_fill(arguments, vars(message)))
    except Exception as error:
        expected = f"expected arguments of {configured.class_path}: {mask_text(str(error))}"
        # Without the cause: its traceback would show values that are not masked.
        raise NotifierInvalid(f"{path}.arguments", expected) from None


def check_notifiers() -> Iterator[NotifierInvalid]:
    """Yield an error if the setting is invalid, and the error of each notifier; nothing is sent."""
    try:
        notifiers = settings.notifiers()
    except NotifierInvalid as error:
        yield error
        return
    for position, configured in enumerate(notifiers):
        try:
            build_notifier(position, configured, _SAMPLE)
        except NotifierInvalid as error:
            yield error


def _import_class(path: str, class_path: str) -> type[BaseNotifier]:
    try:
        imported = pkgutil.resolve_name(class_path)
    except Exception as error:  # a module may fail with any error
        raise NotifierInvalid(path, f"expected a class that can be imported: {error!r}") from error
    if not (isinstance(imported, type) and issubclass(imported, BaseNotifier)):
        raise NotifierInvalid(path, f"expected a subclass of Airflow's BaseNotifier, not {class_path}")
    return imported


def _add_defaults(notifier_class: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(notifier_class).parameters
    defaults = {name: text for name, text in DEFAULT_ARGUMENTS.items() if name in parameters}
    return {**defaults, **arguments}


def _has_placeholder(value: Any) -> bool:
    match value:
        case str():
            return bool(_PLACEHOLDER.search(value))
        case dict():
            return any(map(_has_placeholder, value.values()))
        case list():
            return any(map(_has_placeholder, value))
    return False


def _fill(value: Any, texts: Mapping[str, str]) -> Any:
    """Replace the placeholders in all texts of a JSON value, once: a text of an event may contain others."""
    match value:
        case str():
            return _PLACEHOLDER.sub(lambda match: texts[match[1]], value)
        case dict():
            return {key: _fill(item, texts) for key, item in value.items()}
        case list():
            return [_fill(item, texts) for item in value]
    return value
