"""Reports to RabbitMQ: their form, the outbox, the hook and a listener."""
