"""Notifiers for tests."""

from __future__ import annotations

from typing import Any

from airflow.sdk.bases.notifier import BaseNotifier


class FailingNotifier(BaseNotifier):
    """A notifier with a constructor that fails with its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        raise ValueError(f"no such address: {text}")


class RecordingNotifier(BaseNotifier):
    """A notifier that adds its text, and the id of the present task, to a list of the class."""

    template_fields = ("text",)
    sent: list[tuple[str, str]] = []

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def notify(self, context: Any) -> None:
        """Record the text as it is."""
        self.sent.append((self.text, context["ti"].task_id))
