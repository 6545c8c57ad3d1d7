"""How processes of Airflow run event hooks, and each use of an interface of Airflow that is not public."""
