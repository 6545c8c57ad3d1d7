"""Event hooks: an event comes in, hive jobs run, a report goes out."""
