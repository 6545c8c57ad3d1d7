"""Celery's settings: those of Airflow, and that a worker imports at its start what all tasks do."""

from __future__ import annotations

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG

SETTINGS = {**DEFAULT_CELERY_CONFIG, "imports": ["event_hooks.runtime.preload"]}
"""For ``[celery] celery_config_options``."""
