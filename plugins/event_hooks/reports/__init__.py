"""Everything that knows RabbitMQ."""
