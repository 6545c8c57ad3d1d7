"""The services of docker-compose.yaml have the permissions that they need, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import MySQLdb
import psycopg2
import psycopg2.errors
import pytest

from tests.support.compose_file import iter_addresses, load_compose
from tools import compose_env
from tools.compose.permissions import ISOLATED
from tools.mariadb import MariaDB
from tools.postgresql import PostgreSQL


@pytest.fixture(scope="module")
def values() -> Mapping[str, str]:
    """The values of a new .env file."""
    return compose_env.generate_values()


@pytest.fixture(scope="module")
def compose(values: Mapping[str, str]) -> dict[str, Any]:
    return load_compose(values)


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(compose["services"])


CONNECTIONS = {"LEDGER_PASSWORD", "MYSQL_PASSWORD", "REPORTS_PASSWORD"}
SECRETS = {
    "set-up": {"FERNET_KEY", "ADMIN_PASSWORD", "AIRFLOW_DB_PASSWORD", "RABBITMQ_PASSWORD"}
    | {"EVENT_SERVER_PASSWORD"}
    | CONNECTIONS,
    "api-server": {"FERNET_KEY", "JWT_SECRET", "API_SECRET", "AIRFLOW_DB_PASSWORD"} | CONNECTIONS,
    "scheduler": {"FERNET_KEY", "JWT_SECRET", "AIRFLOW_DB_PASSWORD", "CELERY_PASSWORD", "RESULTS_PASSWORD"},
    "dag-processor": {"FERNET_KEY", "AIRFLOW_DB_PASSWORD"},
    "triggerer": {"FERNET_KEY", "API_SECRET", "AIRFLOW_DB_PASSWORD", "EVENT_SERVER_PASSWORD"} | CONNECTIONS,
    "worker": {"API_SECRET", "RESULTS_PASSWORD", "CELERY_PASSWORD", "EVENT_SERVER_PASSWORD"} | CONNECTIONS,
    "postgres": {"POSTGRES_PASSWORD", "AIRFLOW_DB_PASSWORD", "RESULTS_PASSWORD", "LEDGER_PASSWORD"},
    "rabbitmq": {"RABBITMQ_HASH", "CELERY_HASH", "REPORTS_HASH"},
    "mysql": {"MYSQL_PASSWORD", "BEEKEEPER_PASSWORD", "MYSQL_ROOT_PASSWORD"},
    "beekeeper": {"BEEKEEPER_PASSWORD"},
    "grafana": {"GRAFANA_PASSWORD"},
}
"""``{service: variables of .env that its container has}``; the others have none."""


def test_each_service_has_only_the_secrets_that_it_needs(
    compose: dict[str, Any], services: dict[str, dict[str, Any]], values: Mapping[str, str]
) -> None:
    secrets = {name: value for name, value in values.items() if name != "AIRFLOW_URL"}
    for service, settings_ in services.items():
        texts = [str(value) for value in settings_.get("environment", {}).values()]
        texts += [compose["configs"][config["source"]]["content"] for config in settings_.get("configs", ())]
        found = {name for name, value in secrets.items() if value in " ".join(texts)}
        assert found == SECRETS.get(service, set()), service


def test_no_password_is_in_a_process_list(
    services: dict[str, dict[str, Any]], values: Mapping[str, str]
) -> None:
    for name, service in services.items():
        check = service.get("healthcheck", {}).get("test", ())
        commands = " ".join([str(service.get("command", "")), *check])
        assert [variable for variable in values if values[variable] in commands] in ([], ["AIRFLOW_URL"]), (
            name
        )
        assert "PASSWORD" not in " ".join(check), name


def test_no_service_has_or_gets_capabilities(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"cap_add", "privileged"} & service.keys(), name


def test_servers_are_in_an_internal_network(
    compose: dict[str, Any], services: dict[str, dict[str, Any]]
) -> None:
    internal = {name for name, network in compose["networks"].items() if network.get("internal")}
    networks = {name: set(service["networks"]) for name, service in services.items()}
    assert {name for name in services if networks[name] <= internal} == ISOLATED | {
        "prometheus",
        "statsd-exporter",
    }
    for name, service in services.items():
        assert networks[name] <= compose["networks"].keys()
        assert not (service.get("ports") and networks[name] <= internal), name
    for name, address in iter_addresses(services):
        if host := networks.get(str(urlsplit(address).hostname)):
            assert host & networks[name], (name, address)


@pytest.fixture(scope="module")
def postgresql(compose: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    """A new server that has run the SQL of the service postgres."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("POSTGRES_URL", raising=False)
        server = PostgreSQL(tmp_path_factory.mktemp("compose") / "postgresql")
        server.ensure_running()
        with closing(psycopg2.connect(server.url)) as connection:
            connection.autocommit = True
            for statement in compose["configs"]["databases"]["content"].strip().split(";\n"):
                connection.cursor().execute(statement)
        yield server
        server.processes.stop()


@pytest.mark.parametrize(
    ("role", "variable", "database"),
    [
        ("airflow", "AIRFLOW_DB_PASSWORD", "airflow"),
        ("celery", "RESULTS_PASSWORD", "celery"),
        ("event_ledger", "LEDGER_PASSWORD", "event_ledger"),
    ],
)
def test_each_role_of_postgresql_can_use_its_own_database_only(
    postgresql: PostgreSQL, values: Mapping[str, str], role: str, variable: str, database: str
) -> None:
    address = f"postgresql://{role}:{values[variable]}@{postgresql.host_and_port}"
    with closing(psycopg2.connect(f"{address}/{database}")) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE item (id INT)")
        for statement in ("SELECT pg_read_file('/etc/passwd')", "CREATE DATABASE x", "CREATE ROLE x"):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(statement)
    for other in {"airflow", "celery", "event_ledger", "postgres", "template1"} - {database}:
        with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
            psycopg2.connect(f"{address}/{other}")


@pytest.fixture(scope="module")
def mariadb(compose: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A new server that has run the SQL of the service mysql twice, on the users of an earlier version."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MYSQL_URL", raising=False)
        server = MariaDB(tmp_path_factory.mktemp("compose") / "mariadb")
        server.ensure_running()
        statements = compose["configs"]["hive"]["content"].strip().split(";\n")
        with closing(server.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute("CREATE USER 'hive'@'%' IDENTIFIED BY 'earlier'")
            for statement in statements * 2:
                cursor.execute(statement)
            cursor.execute("CREATE TABLE event_handling.job (id INT)")
        yield server
        server.processes.stop()


def connect(server: MariaDB, user: str, password: str) -> MySQLdb.connections.Connection:
    return MySQLdb.connect(host=server.host, port=server.port, user=user, password=password)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM event_handling.job",
        "DROP TABLE event_handling.job",
        "ALTER TABLE event_handling.job ADD x INT",
        "CREATE TABLE event_handling.another (id INT)",
        "SELECT * FROM mysql.global_priv",
    ],
)
def test_event_hooks_can_select_insert_and_update_in_the_hive_only(
    mariadb: MariaDB, values: Mapping[str, str], statement: str
) -> None:
    with closing(connect(mariadb, "event_hooks", values["MYSQL_PASSWORD"])) as connection:
        cursor = connection.cursor()
        cursor.execute("INSERT INTO event_handling.job VALUES (1)")
        cursor.execute("UPDATE event_handling.job SET id = 2 WHERE id = 1")
        with pytest.raises(MySQLdb.OperationalError, match="denied"):
            cursor.execute(statement)


def test_the_beekeeper_can_create_the_hive_again_and_nothing_else(
    mariadb: MariaDB, values: Mapping[str, str]
) -> None:
    with closing(connect(mariadb, "beekeeper", values["BEEKEEPER_PASSWORD"])) as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE event_handling.result (id INT)")
        cursor.execute("DROP TABLE event_handling.result")
        with pytest.raises(MySQLdb.OperationalError, match="denied"):
            cursor.execute("CREATE DATABASE another")
    with pytest.raises(MySQLdb.OperationalError, match="denied"):
        connect(mariadb, "hive", "earlier")
