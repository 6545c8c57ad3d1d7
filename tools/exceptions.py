"""Errors of the local stack."""


class StackError(Exception):
    """A part of the local stack did not start or stop, or not in time; the message says what to do next."""
