"""docker-compose.yaml is valid, and consistent with the rest of the project."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from airflow.cli.cli_parser import get_parser
from airflow.configuration import conf

from event_hooks import settings
from event_hooks.api.airflow_health import MIN_EXAMINED_RUNS
from tests.support.compose_file import FILE, iter_addresses, load_compose
from tools import compose_env
from tools.airflow_services import CHECKOUT, PROGRAMS

TEXT = FILE.read_text()
PORTS = {
    "postgres": 5432,
    "rabbitmq": 5672,
    "mysql": 3306,
    "api-server": 8080,
    "prometheus": 9090,
    "statsd-exporter": 9102,
}
"""The default port of each image."""


@pytest.fixture(scope="module")
def values() -> dict[str, str]:
    """The values of a new .env file."""
    return compose_env.generate_values()


@pytest.fixture(scope="module")
def compose(values: dict[str, str]) -> dict[str, Any]:
    """The file with its variables substituted, as docker compose does."""
    return load_compose(values)


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(compose["services"])


def test_the_file_matches_the_compose_specification() -> None:
    command = [str(PROGRAMS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(FILE)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_new_env_file_has_exactly_the_used_variables(values: dict[str, str]) -> None:
    variables = set(re.findall(r"(?<!\$)\$\{(\w+)", TEXT))
    optional = set(re.findall(r"\$\{(\w+):-", TEXT))
    assert variables - values.keys() == optional
    assert values.keys() - variables == set()
    # All variables are in braces, or escaped for a shell.
    assert re.findall(r"(?<!\$)\$(?![{$])\w*", TEXT) == []


def test_the_env_file_is_created_once_and_private(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / ".env"
    assert compose_env.main(file) == 0
    content = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert compose_env.main(file) == 1
    assert file.read_text() == content
    result = subprocess.run(
        ["bash", "-c", f". {file}; printf '%s' \"$FERNET_KEY\""], capture_output=True, text=True, check=True
    )
    assert f"FERNET_KEY='{result.stdout}'" in content
    output = capsys.readouterr().out
    assert "docker compose up --build" in output
    assert parse_secrets(content)
    assert [secret for secret in parse_secrets(content) if secret in output] == []


def test_variables_that_an_env_file_lacks_are_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / ".env"
    compose_env.main(file)
    complete = file.read_text()
    earlier = "".join(line for line in complete.splitlines(True) if "MYSQL_ROOT" not in line) + "WORKERS=4"
    file.write_text(earlier)
    assert compose_env.main(file) == 0
    assert "has these new variables: MYSQL_ROOT_PASSWORD\n" in capsys.readouterr().out
    assert re.fullmatch(re.escape(earlier) + r"\nMYSQL_ROOT_PASSWORD='\w{32}'\n", file.read_text())
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_hash_that_is_added_is_of_the_password_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose_env, "hash_password", "hash of {}".format)
    file = tmp_path / ".env"
    compose_env.main(file)
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "REPORTS_HASH" not in line))
    assert compose_env.main(file) == 0
    values = dict(re.findall(r"^(\w+)='(.*)'$", file.read_text(), re.M))
    assert values["REPORTS_HASH"] == f"hash of {values['REPORTS_PASSWORD']}"


def test_an_env_file_is_renewed_only_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / ".env"
    assert compose_env.main(file, renew=True) == 0
    content = file.read_text()
    assert "docker compose down" not in capsys.readouterr().out
    assert compose_env.main(file, renew=True) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert parse_secrets(content) & parse_secrets(file.read_text()) == set()
    assert (tmp_path / ".env.old").read_text() == content
    assert (tmp_path / ".env.old").stat().st_mode & 0o777 == 0o600
    assert "docker compose down --volumes" in capsys.readouterr().out


def parse_secrets(text: str) -> set[str]:
    """Return all values except the address, which is not a secret."""
    return set(re.findall(r"^(?!AIRFLOW_URL)\w+='(.+)'$", text, re.M))


def test_image_versions_equal_those_of_the_project(services: dict[str, dict[str, Any]]) -> None:
    pinned = (CHECKOUT / "requirements.txt").read_text()
    bases = re.findall(
        r"^FROM apache/airflow:([\d.]+)-python([\d.]+)", (CHECKOUT / "Dockerfile").read_text(), re.M
    )
    (base,) = set(bases)
    assert len(bases) == 2
    assert f"\napache-airflow=={base[0]} " in pinned
    # requirements.txt is compiled for this and later versions; the tests run on any supported version.
    assert f"--python-version {base[1]} " in (CHECKOUT / "Makefile").read_text()
    assert "apache-airflow-providers-celery==" in pinned
    images = {service["image"] for service in services.values()}
    without_version = {image for image in images if not re.search(r":v?\d+\.\d+", image)}
    assert without_version == {"event-hooks", "ensemblorg/ensembl-hive"}
    builds = {name for name, service in services.items() if "build" in service}
    assert builds == {"set-up"}  # more would create all containers again at each `up --build`


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_required_package_has_hashes(name: str) -> None:
    """Both installations of them then reject a file that PyPI did not have when `make lock` ran."""
    packages = re.split(r"\n(?=\w)", (CHECKOUT / name).read_text())
    assert len(packages) > 20
    assert [package for package in packages if "--hash=sha256:" not in package] == []
    for file in ("Dockerfile", "tools/setup.sh"):
        assert "--require-hashes" in (CHECKOUT / file).read_text()


def test_every_address_is_of_a_service_in_depends_on(services: dict[str, dict[str, Any]]) -> None:
    dependencies = {name: set(service.get("depends_on", ())) for name, service in services.items()}
    for name, address in iter_addresses(services):
        parts = urlsplit(address)
        if parts.hostname == "localhost":
            assert parts.port == 8080  # the address for a browser
            continue
        assert parts.hostname in services, address
        assert parts.port == PORTS[parts.hostname], address
        started_before = dependencies[name] | {
            indirect for dependency in dependencies[name] for indirect in dependencies[dependency]
        }
        if parts.hostname != "api-server":  # The API server calls itself.
            assert parts.hostname in started_before, (name, address)


def test_metrics_flow_from_the_worker_to_grafana(
    compose: dict[str, Any], services: dict[str, dict[str, Any]]
) -> None:
    environment = services["worker"]["environment"]
    assert (environment["AIRFLOW__METRICS__STATSD_HOST"], environment["AIRFLOW__METRICS__STATSD_PORT"]) == (
        "statsd-exporter",
        "9125",
    )
    (scrape_config,) = yaml.safe_load(compose["configs"]["prometheus"]["content"])["scrape_configs"]
    (data_source,) = yaml.safe_load(compose["configs"]["grafana-source"]["content"])["datasources"]
    targets = [*scrape_config["static_configs"][0]["targets"], urlsplit(data_source["url"]).netloc]
    assert targets == [f"{name}:{PORTS[name]}" for name in ("statsd-exporter", "prometheus")]
    dashboard_sources = set(
        re.findall(r'"uid": "(\w+)"', (CHECKOUT / "docs" / "grafana-dashboard.json").read_text())
    )
    assert data_source["uid"] in dashboard_sources


def test_services_restart_and_have_limits(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["logging"] == {"driver": "local"}, name
        assert re.fullmatch(r"[1-4]g", service["mem_limit"]), name
        if name != "set-up":
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
    assert services["set-up"]["restart"] == "no"


def test_used_users_and_databases_are_created(
    compose: dict[str, Any], services: dict[str, dict[str, Any]]
) -> None:
    definitions = yaml.safe_load(compose["configs"]["rabbitmq-definitions"]["content"])
    vhosts = {(permission["user"], permission["vhost"]) for permission in definitions["permissions"]}
    roles = dict(re.findall(r"CREATE DATABASE (\w+) OWNER (\w+)", compose["configs"]["databases"]["content"]))
    for _, address in iter_addresses(services):
        parts = urlsplit(address)
        if parts.hostname == "rabbitmq":
            assert (parts.username, parts.path[1:]) in vhosts
        if parts.hostname == "postgres":
            assert parts.username == roles[parts.path[1:]]
        if parts.hostname == "mysql":
            assert f"ON {parts.path[1:]}.* TO '{parts.username}'@" in compose["configs"]["hive"]["content"]
        if parts.hostname in ("postgres", "mysql"):
            source = "databases" if parts.hostname == "postgres" else "hive"
            assert f"'{parts.password}'" in compose["configs"][source]["content"]


def test_only_the_api_server_can_listen_on_other_addresses(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
    assert re.findall(r"ports: .*\$\{API_ADDRESS", TEXT)
    assert TEXT.count("API_ADDRESS:-") == 1


def test_every_path_exists(compose: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for volume in service.get("volumes", ()):
            source, target, *_ = volume.split(":")
            if source.startswith("."):
                assert (CHECKOUT / source).exists(), (name, source)
            else:
                assert source in compose["volumes"]
            assert target.startswith("/")
        for config in service.get("configs", ()):
            assert config["source"] in compose["configs"]
        for variable in ("EVENT_LOOKUP", "PROCESS_LOOKUP"):
            if path := service.get("environment", {}).get(variable):
                assert (CHECKOUT / path.removeprefix("/opt/airflow/")).is_file()
    hive = (CHECKOUT / "docker" / "PracticeHive_conf.pm").read_text()
    analyses = re.search(r"qw\(([\w ]+)\)", hive)
    assert analyses
    lookup = yaml.safe_load((CHECKOUT / "lookups" / "process_lookup.json").read_text())
    assert {process["analysis"] for process in lookup.values()} == set(analyses[1].split())
    connections = {f"AIRFLOW_CONN_{process['hive_conn_id'].upper()}" for process in lookup.values()}
    assert connections <= services["worker"]["environment"].keys()


def test_every_setting_of_event_hooks_exists(services: dict[str, dict[str, Any]]) -> None:
    names = [name for service in services.values() for name in service.get("environment", {})]
    options = {
        name.removeprefix("AIRFLOW__EVENT_HOOKS__").lower() for name in names if "EVENT_HOOKS__" in name
    }
    assert options
    assert {name for name in options if not hasattr(settings, name)} == set()
    queue = services["worker"]["environment"]["AIRFLOW__EVENT_HOOKS__TASK_QUEUE"]
    assert services["worker"]["command"].split()[-2:] == ["--queues", queue]


def test_every_airflow_setting_exists(services: dict[str, dict[str, Any]]) -> None:
    names = {name for service in services.values() for name in service.get("environment", {})}
    options = {tuple(name.lower().split("__")[1:]) for name in names if name.startswith("AIRFLOW__")}
    descriptions = conf.configuration_description
    unknown = {
        (section, option)
        for section, option in options
        if section != "event_hooks" and option not in descriptions.get(section, {}).get("options", {})
    }
    assert unknown == set()
    environment = services["worker"]["environment"]
    assert environment["AIRFLOW__OPERATORS__DEFAULT_QUEUE"] == environment["AIRFLOW__EVENT_HOOKS__TASK_QUEUE"]


def test_the_scheduler_examines_enough_runs(services: dict[str, dict[str, Any]]) -> None:
    for service in ("scheduler", "api-server"):
        environment = services[service]["environment"]
        limit = environment["AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE"]
        assert int(limit) >= MIN_EXAMINED_RUNS


def test_every_command_exists(services: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    own_services = [service for service in services.values() if service["image"] == "event-hooks"]
    commands = [service["command"].split() for service in own_services if isinstance(service["command"], str)]
    checks = [check for service in own_services for check in service.get("healthcheck", {}).get("test", ())]
    commands += [
        re.sub(r'"\$HOSTNAME"', "here", check).split()[1:] for check in checks if check.startswith("airflow ")
    ]
    (script,) = (service["command"][0] for service in own_services if isinstance(service["command"], list))
    commands += [line.split()[1:] for line in script.splitlines() if line.startswith("airflow ")]
    monkeypatch.setitem(os.environ, "AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    parser = get_parser()
    for command in commands:
        parser.parse_args(command)  # Exits if the command is invalid.
    modules = re.findall(r"python -m ([\w.]+)", script)
    assert len(modules) == 3
    assert all(importlib.util.find_spec(module) for module in modules)
    replicas = {
        name: service["deploy"]["replicas"] for name, service in services.items() if "deploy" in service
    }
    assert replicas == {"triggerer": 2, "worker": "2"}
