# Airflow with what event hooks needs; dags/, plugins/ and lookups/ are mounted (docker-compose.yaml).
FROM apache/airflow:3.3.2-python3.11
USER root
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential default-libmysqlclient-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
USER airflow
COPY requirements.txt /requirements.txt
RUN pip install --no-cache-dir --requirement /requirements.txt
