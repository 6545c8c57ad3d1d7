"""
A practice hive: a simulator of eHive's database and of its workers, for tests and demonstrations.

It is not part of the product. ``tables.create`` creates the database, ``worker.Worker`` does the jobs, and
the field ``practice`` of an event plans their failures (``scenario.Scenario``).
"""
