"""Event hooks: an event comes in, hive jobs run, a report goes out."""

__version__ = "0.1.0"
