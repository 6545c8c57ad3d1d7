"""Our own database: the events received, the jobs and outcomes of their processes, and pending reports."""
