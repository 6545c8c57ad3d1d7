"""
What DAG files and tasks import, for those who fork a process for each of them.

Airflow's scheduler and dag-processor import this with the plugin, a Celery worker by ``celery_settings``.
Each task, and each parsing of a file, would otherwise import it anew, which takes a second of CPU.
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
import event_hooks.process_event.deadlines
import event_hooks.process_event.failure_mail
import event_hooks.process_event.params
import event_hooks.process_event.planning
import event_hooks.process_event.report
import event_hooks.process_event.route
import event_hooks.process_event.runs
import event_hooks.process_event.submit
import event_hooks.process_event.wait
