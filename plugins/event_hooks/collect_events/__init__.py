"""The DAG `collect_events`: read ensembl_metadata and start runs for its events."""
