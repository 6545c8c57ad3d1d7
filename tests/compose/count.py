"""Print the number of jobs, outcomes and reports as JSON; runs in a container of the service set-up."""

import json
import os
from itertools import takewhile

from sqlalchemy import create_engine, text

from event_hooks.ledger.database import Ledger
from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.topology import QUEUES

QUEUE = next(iter(QUEUES))


def read_message_ids() -> list[str]:
    """Return the message ids of all reports that the broker has, and leave them in the queue."""
    with RabbitMQHook().channel() as channel:
        messages = takewhile(lambda message: message[0], iter(lambda: channel.basic_get(QUEUE), None))
        return [properties.message_id for _, properties, _ in messages]


def main() -> None:
    """Print the numbers."""
    ledger = Ledger()
    states = ledger.read(text("SELECT state, count(*) FROM event_process GROUP BY state"))
    reports = ledger.read(text("SELECT message_id, sent_at FROM report WHERE NOT is_transient"))
    finished = ledger.read(text("SELECT count(*) FROM report WHERE body LIKE '%process_finished%'"))
    hive = create_engine(
        os.environ["AIRFLOW_CONN_HIVE_EVENT_HANDLING"].replace("mysql:", "mysql+mysqldb:", 1)
    )
    with hive.connect() as connection:
        jobs = connection.execute(text("SELECT count(*) FROM job WHERE prev_job_id IS NULL")).scalar_one()
    received = read_message_ids()
    numbers = {
        "events": ledger.read(text("SELECT count(*) FROM event"))[0][0],
        "processes": dict(map(tuple, states)),
        "jobs": jobs,
        "final_reports": finished[0][0],
        "pending_reports": sum(row.sent_at is None for row in reports),
        "missing_reports": len({row.message_id for row in reports} - set(received)),
        "repeated_reports": len(received) - len(set(received)),
    }
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
