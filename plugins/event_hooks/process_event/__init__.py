"""The DAG `process_event`: one module for each of its tasks, and the modules they share."""
