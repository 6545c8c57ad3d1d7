"""docker/start_beekeeper.sh, with a real MariaDB and stand-ins for the programs of eHive's image."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, inspect

from tests.support.practice_hive.database import parse_url
from tools.airflow_services import CHECKOUT

SCRIPT = CHECKOUT / "docker" / "start_beekeeper.sh"
PASSWORD = "secret_of_the_beekeeper"
TABLES = """
CREATE TABLE hive_meta (meta_key VARCHAR(255), meta_value LONGTEXT);
CREATE TABLE analysis_base (logic_name VARCHAR(255));
CREATE TABLE job (job_id INT);
"""
BEEKEEPER = "beekeeper -url {url} -loop_until FOREVER -sleep 0.1"

PROGRAMS = {
    "db_cmd.pl": r"""
        my ($url, $statement) = @ARGV[1, 3];
        $url =~ m{^mysql://(.*):(.*)@(.*):(.*)/(.*)$} or die;
        exec "mysql", "-u$1", "-p$2", "-h$3", "-P$4", $5, "-e", $statement;
    """,
    # Like load_file_or_module of eHive, which reads the package name in a file and searches @INC for it.
    "init_pipeline.pl": r"""
        my ($name, @options) = @ARGV;
        if ($name !~ /^(\w|::)+$/) { `grep ^package $name` =~ /^package\s+([\w:]+);/; $name = $1 }
        eval "require $name; 1" or die $@;
        print "created @options\n";
        my $conf = $name->new;
        my ($stock, @further) = @{ $conf->pipeline_create_commands };
        my @names = map { $_->{-logic_name} } @{ $conf->pipeline_analyses };
        my $tables = $ENV{TABLES} =~ s/CREATE TABLE (\w+)/DROP TABLE IF EXISTS $1; CREATE TABLE $1/gr;
        my $rows = join ", ", map { "('$_')" } @names;
        my $sql = join "; ", $tables, @further, "INSERT INTO analysis_base VALUES $rows";
        system "db_cmd.pl", "-url", $ENV{HIVE_URL}, "-sql", $sql and die;
    """,
    "beekeeper.pl": r'print "beekeeper @ARGV\n"',
}

STOCK_CONF = r"""
package Bio::EnsEMBL::Hive::PipeConfig::HiveGeneric_conf;
sub new { bless {}, shift }
sub default_options { return {} }
sub pipeline_create_commands { return ["stock tables"] }
sub db_cmd { return $_[1] }
1;
"""


class Start:
    """
    A start of the service beekeeper.

    :ivar url: of the hive.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self._environment = {
            "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
            "PERL5LIB": str(folder),
            "HIVE_PASSWORD": PASSWORD,
            "TABLES": TABLES,
        }

    def run(self, url: str | None = None) -> tuple[int, str]:
        """Return exit status and output."""
        environment = {**self._environment, "HIVE_URL": url or self.url}
        result = subprocess.run(
            ["bash", str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert result.stderr == ""
        return result.returncode, result.stdout


@pytest.fixture
def start(tmp_path: Path, hive: Engine) -> Start:
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env perl\n{text}\n")
        (tmp_path / name).chmod(0o755)
    base = tmp_path / "Bio" / "EnsEMBL" / "Hive" / "PipeConfig" / "HiveGeneric_conf.pm"
    base.parent.mkdir(parents=True)
    base.write_text(STOCK_CONF)
    return Start(tmp_path, hive.url.set(drivername="mysql", query={}).render_as_string(hide_password=False))


@pytest.fixture
def hive(mysql_url: str) -> Iterator[Engine]:
    """An empty database, as the service mysql creates it, with a user of its own."""
    name, server = f"hive_{uuid4().hex[:12]}", create_engine(parse_url(f"{mysql_url.rstrip('/')}/mysql"))
    with server.begin() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
        connection.exec_driver_sql(f"CREATE USER {name}@'%%' IDENTIFIED BY '{PASSWORD}'")
        connection.exec_driver_sql(f"GRANT ALL ON {name}.* TO {name}@'%%'")
    engine = create_engine(server.url.set(username=name, password=PASSWORD, database=name))
    yield engine
    engine.dispose()
    with server.begin() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name}")
        connection.exec_driver_sql(f"DROP USER {name}@'%%'")
    server.dispose()


def create_tables(hive: Engine, *more: str) -> None:
    with hive.begin() as connection:
        for statement in (*filter(str.strip, TABLES.split(";")), *more):
            connection.exec_driver_sql(statement)


def list_analyses(hive: Engine) -> list[str]:
    with hive.connect() as connection:
        return [name for (name,) in connection.exec_driver_sql("SELECT logic_name FROM analysis_base")]


def expected_output(start: Start, *, is_created: bool) -> str:
    url = start.url.replace(PASSWORD, "***")
    lines = [f"created -pipeline_url {url} -hive_force_init 1"] if is_created else []
    return "\n".join([*lines, BEEKEEPER.format(url=url), ""])


def test_the_hive_is_created_once_and_no_password_is_printed(start: Start, hive: Engine) -> None:
    assert start.run() == (0, expected_output(start, is_created=True))
    assert list_analyses(hive) == ["event_dump_dna", "event_dump_peptide"]
    assert "result" in inspect(hive).get_table_names()
    assert start.run() == (0, expected_output(start, is_created=False))


@pytest.mark.parametrize("statements", [[], ["INSERT INTO analysis_base VALUES ('event_dump_dna')"]])
def test_an_interrupted_creation_is_repeated(start: Start, hive: Engine, statements: list[str]) -> None:
    create_tables(hive, *statements)
    assert start.run() == (0, expected_output(start, is_created=True))
    assert list_analyses(hive) == ["event_dump_dna", "event_dump_peptide"]


def test_a_hive_with_jobs_is_never_created_again(start: Start, hive: Engine) -> None:
    create_tables(hive, "INSERT INTO job VALUES (1)")
    status, output = start.run()
    assert (status, output) == (
        1,
        "The hive has 1 jobs, but not the two analyses of PracticeHive_conf.pm: it is not created again\n",
    )
    assert list_analyses(hive) == []


def test_nothing_is_created_while_the_server_does_not_answer(start: Start, hive: Engine) -> None:
    port = urlsplit(start.url).port
    status, output = start.run(start.url.replace(f":{port}/", ":1/"))
    assert status != 0
    assert "created" not in output
    assert inspect(hive).get_table_names() == []
