"""Follow-up events: built from a job's result, and sent to an event server."""
