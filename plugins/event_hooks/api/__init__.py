"""The event API and the event board, which run inside Airflow's API server."""
