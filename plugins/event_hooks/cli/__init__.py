"""The command ``event-hooks``."""
