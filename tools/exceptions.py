"""Errors of the local stack."""


class StackError(Exception):
    """A part of the local stack did not start or stop in time; the message names the next step."""
