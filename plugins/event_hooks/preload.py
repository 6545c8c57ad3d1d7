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

import event_hooks.collecting
import event_hooks.event_jobs
import event_hooks.failure_mail
import event_hooks.handing_on
import event_hooks.lateness
import event_hooks.ledger.intake
import event_hooks.ledger.joins
import event_hooks.ledger.overview
import event_hooks.lookups
import event_hooks.reports.operator
import event_hooks.routing
import event_hooks.starting
