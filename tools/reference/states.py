"""The states that a retry accepts, from ``event_hooks.ledger.user_requests``."""

from __future__ import annotations

from event_hooks.ledger.records import ProcessState
from event_hooks.ledger.user_requests import STATES_TO_RETRY, RetryMode
from tools.reference.markdown import format_table


def render_retry_modes() -> str:
    """Return a table of the next state of a process after a retry, by mode; an empty cell means no retry."""
    rows = [
        [
            f"`{state}`",
            *(f"`{after}`" if (after := STATES_TO_RETRY[mode].get(state)) else "" for mode in RetryMode),
        ]
        for state in ProcessState
        if any(state in states for states in STATES_TO_RETRY.values())
    ]
    return format_table(("State", *(f"Mode `{mode}`" for mode in RetryMode)), rows)
