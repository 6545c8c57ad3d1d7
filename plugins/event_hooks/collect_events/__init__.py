"""The DAG `collect_events`: read events from ensembl_metadata and start runs for them."""
