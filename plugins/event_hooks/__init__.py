"""Event hooks: an event comes in, hive jobs run, a report goes out."""

__version__ = "1.0.0"
