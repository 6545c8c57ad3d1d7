# Airflow with what event hooks needs; dags/, plugins/ and lookups/ are mounted (docker-compose.yaml).
# The compiler and the headers stay in the first stage: mysqlclient is only available as source.
FROM apache/airflow:3.3.2-python3.11 AS build
USER root
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential default-libmysqlclient-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
USER airflow
COPY requirements.txt /requirements.txt
RUN pip wheel --no-cache-dir --no-deps --require-hashes --requirement /requirements.txt --wheel-dir /tmp/wheels

FROM apache/airflow:3.3.2-python3.11
USER root
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libmariadb3 \
    && rm -rf /var/lib/apt/lists/*
USER airflow
RUN --mount=type=bind,from=build,source=/tmp/wheels,target=/tmp/wheels \
    pip install --no-cache-dir --no-index --no-deps /tmp/wheels/*.whl
