"""
Import the modules that DAG files and tasks use, in processes that fork a process for each task or file.

Airflow's scheduler and dag-processor import this module with the plugin, a Celery worker by
``event_hooks.runtime.celery``. Without it, each task and each parsing of a file would import these
modules, which takes a second of CPU. Private to Airflow 3.3 are ``airflow.dag_processing`` and
``airflow.sdk.execution_time``: Airflow itself imports them in each forked process and has no setting to
import them before.
"""
# ruff: noqa: F401

import airflow.dag_processing.dagbag
import airflow.providers.standard.decorators.branch_python
import airflow.sdk.definitions.decorators
import airflow.sdk.execution_time.supervisor
import airflow.sdk.execution_time.task_runner

import event_hooks.collect_events.collect
import event_hooks.events.lookups
import event_hooks.follow_ups.send
import event_hooks.ledger.joins
import event_hooks.ledger.overview
import event_hooks.ledger.retention
import event_hooks.maintain_ledger.maintenance
import event_hooks.notifications.send
import event_hooks.process_event.assets
import event_hooks.process_event.params
import event_hooks.process_event.planning
import event_hooks.process_event.report
import event_hooks.process_event.route
import event_hooks.process_event.runs
import event_hooks.process_event.submit
import event_hooks.process_event.wait
