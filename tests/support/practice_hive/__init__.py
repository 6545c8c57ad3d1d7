"""
A practice hive: a simulator of eHive's database and of its workers, for tests and demonstrations.

It is no part of the product. ``tables.create`` makes the database, ``worker.Worker`` does its jobs, and an
event's field ``practice`` says what shall go wrong (``steering.Practice``).
"""
