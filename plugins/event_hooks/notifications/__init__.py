"""Notifications: messages about failed, stalled and late processes, sent by any Airflow notifier."""
