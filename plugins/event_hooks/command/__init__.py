"""The command event-hooks: the client for people, and for shell scripts."""
