"""The name of the test session, which all its processes share."""

SESSION = "EVENT_HOOKS_TEST_SESSION"
"""Environment variable with the name of the session; pytest-xdist's processes inherit it."""
