"""
The exchange and the queues of the reports.

``python -m event_hooks.reports.topology`` declares them; it is idempotent. The running system only publishes.
"""

from __future__ import annotations

from event_hooks import settings
from event_hooks.reports.hook import RabbitMQHook

QUEUES = {"persistent_report": "report.*", "email_report": "report.fatal"}
"""``{queue: routing key pattern}`` of the known consumers. Source: ensembl-prodinf-report."""


def declare_topology(hook: RabbitMQHook, exchange: str, queues: dict[str, str]) -> None:
    """
    Declare a durable exchange, durable queues and their bindings.

    :param queues: ``{queue: routing key pattern}``.
    :raises ReportNotPublished: the broker is unavailable, does not permit it, or has an exchange or queue of
        this name with other properties.
    """
    with hook.channel() as channel:
        channel.exchange_declare(exchange, settings.report_exchange_type(), durable=True)
        for queue, pattern in queues.items():
            channel.queue_declare(queue, durable=True)
            channel.queue_bind(queue, exchange, pattern)


if __name__ == "__main__":
    declare_topology(RabbitMQHook(), settings.report_exchange(), QUEUES)
