"""
The exchange and the queues that reports go through.

``python -m event_hooks.reports.topology`` declares them; doing so again changes nothing. The running system
only publishes.
"""

from __future__ import annotations

from event_hooks import settings
from event_hooks.reports.hook import RabbitMQHook

QUEUES = {"persistent_report": "report.*", "email_report": "report.fatal"}
"""Which reports each of the known consumers' queues gets. Source: ensembl-prodinf-report."""


def declare(hook: RabbitMQHook, exchange: str, queues: dict[str, str]) -> None:
    """
    Make a durable exchange, durable queues and their bindings, where they are missing.

    :param queues: ``{queue: routing key pattern}``.
    :raises ReportNotPublished: if an exchange or queue of that name exists and is of another kind.
    """
    with hook.channel() as channel:
        channel.exchange_declare(exchange, settings.report_exchange_type(), durable=True)
        for queue, pattern in queues.items():
            channel.queue_declare(queue, durable=True)
            channel.queue_bind(queue, exchange, pattern)


if __name__ == "__main__":
    declare(RabbitMQHook(), settings.report_exchange(), QUEUES)
