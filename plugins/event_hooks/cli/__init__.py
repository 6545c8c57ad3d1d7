"""The command `event-hooks`."""
