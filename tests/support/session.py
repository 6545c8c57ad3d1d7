"""What all processes of one test session have in common."""

SESSION = "EVENT_HOOKS_TEST_SESSION"
"""Environment variable with the name of the session; pytest-xdist's processes inherit it."""
