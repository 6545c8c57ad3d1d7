"""Hook, operator, sensor and trigger for jobs of eHive databases; usable by any DAG."""
