"""docker-compose.yaml agrees with the compose specification, and with the rest of the project."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from airflow.cli.cli_parser import get_parser
from airflow.configuration import conf

from event_hooks import settings
from tools import compose_env
from tools.airflow_services import CHECKOUT, PROGRAMS

FILE = CHECKOUT / "docker-compose.yaml"
TEXT = FILE.read_text()
PORTS = {
    "postgres": 5432,
    "rabbitmq": 5672,
    "mysql": 3306,
    "api-server": 8080,
    "prometheus": 9090,
    "statsd-exporter": 9102,
}
"""Where each image listens by itself."""


@pytest.fixture(scope="module")
def values() -> dict[str, str]:
    """What a fresh .env has."""
    return compose_env.values()


@pytest.fixture(scope="module")
def compose(values: dict[str, str]) -> dict[str, Any]:
    """The file as docker compose would read it."""

    def value(found: re.Match[str]) -> str:
        return values.get(found[1]) or found[2].removeprefix(":-")

    filled = re.sub(r"\$\{(\w+)(:-[^}]*|:\?[^}]*)?\}", value, TEXT.replace("$$", "\0"))
    return dict(yaml.safe_load(filled.replace("\0", "$")))


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(compose["services"])


def addresses(services: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Give each service with each address that its environment names."""
    for name, service in services.items():
        for value in service.get("environment", {}).values():
            if "://" in str(value):
                yield name, str(value)


def test_it_is_of_the_compose_specification() -> None:
    command = [str(PROGRAMS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(FILE)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_variable_is_in_a_fresh_env_and_every_one_there_is_used(values: dict[str, str]) -> None:
    named = set(re.findall(r"(?<!\$)\$\{(\w+)", TEXT))
    may_be_absent = set(re.findall(r"\$\{(\w+):-", TEXT))
    assert named - values.keys() == may_be_absent
    assert values.keys() - named == set()
    assert re.findall(r"(?<!\$)\$(?![{$])\w*", TEXT) == []  # all in braces, or meant for a shell


def test_the_env_is_made_once_and_is_for_its_owner_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / ".env"
    assert compose_env.main(file) == 0
    made = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert compose_env.main(file) == 1
    assert file.read_text() == made
    read = subprocess.run(
        ["bash", "-c", f". {file}; printf '%s' \"$FERNET_KEY\""], capture_output=True, text=True, check=True
    )
    assert f"FERNET_KEY='{read.stdout}'" in made
    said = capsys.readouterr().out
    assert "docker compose up --build" in said
    assert secrets_of(made)
    assert [secret for secret in secrets_of(made) if secret in said] == []


def test_an_env_is_renewed_on_demand_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / ".env"
    assert compose_env.main(file, renew=True) == 0
    made = file.read_text()
    assert "docker compose down" not in capsys.readouterr().out
    assert compose_env.main(file, renew=True) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert secrets_of(made) & secrets_of(file.read_text()) == set()
    assert (tmp_path / ".env.old").read_text() == made
    assert (tmp_path / ".env.old").stat().st_mode & 0o777 == 0o600
    assert "docker compose down --volumes" in capsys.readouterr().out


def secrets_of(text: str) -> set[str]:
    """Give all values but the address, which is no secret."""
    return set(re.findall(r"^(?!AIRFLOW_URL)\w+='(.+)'$", text, re.M))


def test_versions_are_those_of_the_project(services: dict[str, dict[str, Any]]) -> None:
    pinned = (CHECKOUT / "requirements.txt").read_text()
    base = re.search(
        r"^FROM apache/airflow:([\d.]+)-python([\d.]+)$", (CHECKOUT / "Dockerfile").read_text(), re.M
    )
    assert base
    assert f"apache-airflow=={base[1]}\n" in pinned
    # requirements.txt is compiled for the image's Python; the tests run on any that the project supports
    assert f"--python-version {base[2]} " in (CHECKOUT / "Makefile").read_text()
    assert "apache-airflow-providers-celery==" in pinned
    images = {service["image"] for service in services.values()}
    assert {image for image in images if ":" not in image} == {"event-hooks", "ensemblorg/ensembl-hive"}
    assert {service["build"] for service in services.values() if service["image"] == "event-hooks"} == {"."}


def test_every_address_leads_to_a_service_that_is_waited_for(services: dict[str, dict[str, Any]]) -> None:
    waits = {name: set(service.get("depends_on", ())) for name, service in services.items()}
    for name, address in addresses(services):
        parts = urlsplit(address)
        if parts.hostname == "localhost":
            assert parts.port == 8080  # as a browser sees it
            continue
        assert parts.hostname in services, address
        assert parts.port == PORTS[parts.hostname], address
        before = waits[name] | {further for one in waits[name] for further in waits[one]}
        if parts.hostname != "api-server":  # which asks itself
            assert parts.hostname in before, (name, address)


def test_metrics_go_from_one_service_to_the_next(
    compose: dict[str, Any], services: dict[str, dict[str, Any]]
) -> None:
    told = services["worker"]["environment"]
    assert (told["AIRFLOW__METRICS__STATSD_HOST"], told["AIRFLOW__METRICS__STATSD_PORT"]) == (
        "statsd-exporter",
        "9125",
    )
    (scraped,) = yaml.safe_load(compose["configs"]["prometheus"]["content"])["scrape_configs"]
    (source,) = yaml.safe_load(compose["configs"]["grafana-source"]["content"])["datasources"]
    asked = [*scraped["static_configs"][0]["targets"], urlsplit(source["url"]).netloc]
    assert asked == [f"{name}:{PORTS[name]}" for name in ("statsd-exporter", "prometheus")]
    shown = set(re.findall(r'"uid": "(\w+)"', (CHECKOUT / "docs" / "grafana-dashboard.json").read_text()))
    assert source["uid"] in shown


def test_what_ends_is_started_again_and_none_takes_all(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["logging"] == {"driver": "local"}, name
        assert re.fullmatch(r"[1-4]g", service["mem_limit"]), name
        if name != "set-up":
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
    assert services["set-up"]["restart"] == "no"


def test_users_and_databases_are_those_that_are_made(
    compose: dict[str, Any], services: dict[str, dict[str, Any]], values: dict[str, str]
) -> None:
    definitions = yaml.safe_load(compose["configs"]["rabbitmq-definitions"]["content"])
    vhosts = {(one["user"], one["vhost"]) for one in definitions["permissions"]}
    databases = {"airflow", *re.findall(r"CREATE DATABASE (\w+)", compose["configs"]["ledger"]["content"])}
    for _, address in addresses(services):
        parts = urlsplit(address)
        if parts.hostname == "rabbitmq":
            assert (parts.username, parts.path[1:]) in vhosts
        if parts.hostname == "postgres":
            assert parts.username == services["postgres"]["environment"]["POSTGRES_USER"]
            assert parts.password == values["POSTGRES_PASSWORD"]
            assert parts.path[1:] in databases
        if parts.hostname == "mysql":
            assert parts.username == services["mysql"]["environment"]["MYSQL_USER"]
            assert f"{parts.path[1:]}.*" in compose["configs"]["hive"]["content"]


def test_only_the_api_server_may_be_opened_to_others(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
    assert re.findall(r"ports: .*\$\{API_ADDRESS", TEXT)
    assert TEXT.count("API_ADDRESS:-") == 1


def test_every_path_is_there(compose: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
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
    assert {one["analysis"] for one in lookup.values()} == set(analyses[1].split())
    connections = {f"AIRFLOW_CONN_{one['hive_conn_id'].upper()}" for one in lookup.values()}
    assert connections <= services["worker"]["environment"].keys()


def test_every_setting_of_ours_exists(services: dict[str, dict[str, Any]]) -> None:
    names = [name for service in services.values() for name in service.get("environment", {})]
    ours = {name.removeprefix("AIRFLOW__EVENT_HOOKS__").lower() for name in names if "EVENT_HOOKS__" in name}
    assert ours
    assert {name for name in ours if not hasattr(settings, name)} == set()
    queue = services["worker"]["environment"]["AIRFLOW__EVENT_HOOKS__TASK_QUEUE"]
    assert services["worker"]["command"].split()[-2:] == ["--queues", queue]


def test_every_setting_of_airflow_exists(services: dict[str, dict[str, Any]]) -> None:
    names = {name for service in services.values() for name in service.get("environment", {})}
    theirs = {tuple(name.lower().split("__")[1:]) for name in names if name.startswith("AIRFLOW__")}
    known = conf.configuration_description
    unknown = {
        (section, option)
        for section, option in theirs
        if section != "event_hooks" and option not in known.get(section, {}).get("options", {})
    }
    assert unknown == set()
    environment = services["worker"]["environment"]
    assert environment["AIRFLOW__OPERATORS__DEFAULT_QUEUE"] == environment["AIRFLOW__EVENT_HOOKS__TASK_QUEUE"]


def test_every_command_is_one(services: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    mine = [service for service in services.values() if service["image"] == "event-hooks"]
    words = [service["command"].split() for service in mine if isinstance(service["command"], str)]
    checks = [text for service in mine for text in service.get("healthcheck", {}).get("test", ())]
    words += [
        re.sub(r'"\$HOSTNAME"', "here", text).split()[1:] for text in checks if text.startswith("airflow ")
    ]
    (script,) = (service["command"][0] for service in mine if isinstance(service["command"], list))
    words += [line.split()[1:] for line in script.splitlines() if line.startswith("airflow ")]
    monkeypatch.setitem(os.environ, "AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    parser = get_parser()
    for command in words:
        parser.parse_args(command)  # exits where it is none
    modules = re.findall(r"python -m ([\w.]+)", script)
    assert len(modules) == 2
    assert all(importlib.util.find_spec(module) for module in modules)
    assert [name for name, service in services.items() if service.get("deploy") == {"replicas": 2}] == [
        "triggerer",
        "worker",
    ]


@pytest.fixture
def ehive(tmp_path: Path) -> dict[str, str]:
    """What eHive's image has, as far as its beekeeper's command needs it: there is no eHive here."""
    programs = {
        "db_cmd.pl": 'exit !-e "$ENV{HOME}/made"',
        # As its load_file_or_module: of a file only the package's name counts, which is looked for on @INC
        "init_pipeline.pl": r"""
            my ($name, @options) = @ARGV;
            if ($name !~ /^(\w|::)+$/) { `grep ^package $name` =~ /^package\s+([\w:]+);/; $name = $1 }
            eval "require $name; 1" or die $@;
            system "touch $ENV{HOME}/made";
            my $conf = $name->new;
            print "made ", $conf->default_options->{pipeline_name}, " @options\n";
            print join(" ", map { $_->{-logic_name} } @{ $conf->pipeline_analyses }), "\n";
            print join("\n", @{ $conf->pipeline_create_commands }), "\n";
        """,
        "beekeeper.pl": r'print "kept @ARGV\n"',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env perl\n{text}\n")
        (tmp_path / name).chmod(0o755)
    base = tmp_path / "Bio" / "EnsEMBL" / "Hive" / "PipeConfig" / "HiveGeneric_conf.pm"
    base.parent.mkdir(parents=True)
    base.write_text(r"""
        package Bio::EnsEMBL::Hive::PipeConfig::HiveGeneric_conf;
        sub new { bless {}, shift }
        sub default_options { return {} }
        sub pipeline_create_commands { return ["stock tables"] }
        sub db_cmd { return $_[1] }
        1;
    """)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "PERL5LIB": f"{tmp_path}:", "HOME": str(tmp_path), "HIVE_URL": "mysql://hive"}


def test_a_hive_is_made_once_and_worked_on(
    services: dict[str, dict[str, Any]], ehive: dict[str, str], tmp_path: Path
) -> None:
    *shell, script = services["beekeeper"]["command"]
    (volume,) = services["beekeeper"]["volumes"]
    source, target, _ = volume.split(":")
    script = script.replace(str(Path(target).parent), str((CHECKOUT / source).parent))

    def said() -> list[str]:
        ended = subprocess.run(
            [*shell, script], env=ehive, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout.splitlines()

    kept = "kept -url mysql://hive -loop_until FOREVER -sleep 0.1"
    assert said() == [
        "made event_handling -pipeline_url mysql://hive",
        "event_dump_dna event_dump_peptide",
        "stock tables",
        "CREATE TABLE result (job_id BIGINT PRIMARY KEY, output LONGTEXT)",
        kept,
    ]
    assert said() == [kept]
