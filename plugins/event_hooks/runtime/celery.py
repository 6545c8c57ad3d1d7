"""
Celery's settings: those of Airflow, and the modules that a worker imports when it starts.

``[celery] celery_config_options`` is public. It replaces Airflow's settings as a whole, so they are imported
here from the Celery provider.
"""

from __future__ import annotations

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG

SETTINGS = {**DEFAULT_CELERY_CONFIG, "imports": ["event_hooks.runtime.preload"]}
"""For ``[celery] celery_config_options``."""
