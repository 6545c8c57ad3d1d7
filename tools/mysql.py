"""
Run the tests of hives, ledger and ensembl_metadata on MySQL, and write the result to ``docs/mysql.md``.

MySQL is that of Debian unstable. debootstrap installs it below ``.stack/mysql``, in a root folder of its own,
because Debian's stable releases have only MariaDB; that needs root and some 500 MB. Further arguments go to
pytest.
"""

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from tools.airflow_services import CHECKOUT
from tools.bench.measurement import describe_machine
from tools.exceptions import StackError
from tools.mariadb import MariaDB
from tools.private_files import write_private
from tools.server import START_SECONDS, find_program

SUITE, MIRROR = "sid", "http://deb.debian.org/debian"
INSTALL_SECONDS = 900.0
TESTS = (
    "tests/integration/hive",
    "tests/integration/ledger",
    "tests/integration/collect_events",
    "tests/integration/process_event",
    "tests/integration/maintain_ledger",
    "tests/integration/follow_ups",
    "tests/integration/api",
)
RECORD = CHECKOUT / "docs" / "mysql.md"
DATA = Path("var/lib/event_hooks")


class MySQL(MariaDB):
    """The MySQL server of Debian unstable."""

    name = "MySQL"
    variable = "NO_SUCH_VARIABLE"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.root = folder / "root"
        self.data = self.root / DATA

    def create_data(self) -> None:
        """Install the server if it is missing, and create its data folder."""
        if not self.root.exists():
            self._install()
        command = [*self._command(), "--initialize-insecure"]
        self.processes.run(command, self.environment(), START_SECONDS)

    def _install(self) -> None:
        partial = self.folder / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        command = [
            "debootstrap",
            "--variant=minbase",
            "--include=mysql-server-core",
            SUITE,
            str(partial),
            MIRROR,
        ]
        self.processes.run(command, self.environment(), INSTALL_SECONDS)
        partial.rename(self.root)

    def _command(self) -> list[str]:
        program = [find_program("chroot"), str(self.root), "/usr/sbin/mysqld"]
        return [*program, "--no-defaults", "--user=root", "--tmpdir=/tmp", f"--datadir=/{DATA}"]

    def prepare_command(self) -> Sequence[str]:
        """Write the file with the accounts, and return the command line."""
        write_private(self.root / "accounts.sql", self._build_accounts_sql())
        settings = {
            "bind-address": self.host,
            "port": self.port,
            "socket": "/tmp/mysql.sock",  # noqa: S108 (below the root folder)
            "mysqlx": "OFF",
            "secure-file-priv": "NULL",  # the folder of its default does not exist
            "init-file": "/accounts.sql",
            "innodb-flush-log-at-trx-commit": 2,
            "max-connections": 200,
        }
        return [*self._command(), *(f"--{name}={value}" for name, value in settings.items())]

    def _build_accounts_sql(self) -> str:
        user, password = f"'{self.user}'@'%'", f"'{self.password}'"  # both are of this program
        return (
            f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY {password};\n"
            f"GRANT ALL ON *.* TO {user} WITH GRANT OPTION;\n"
            f"ALTER USER 'root'@'localhost' IDENTIFIED BY {password};\n"
        )

    def load_version(self) -> str:
        """Return the server's version."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT VERSION()")
            return str(cursor.fetchone()[0])


def run_tests(server: MySQL, arguments: Sequence[str]) -> int:
    """Run the tests, write the record unless there are arguments, and return the exit status."""
    results = server.folder / "results.xml"
    results.unlink(missing_ok=True)
    pytest = [str(Path(sys.executable).with_name("pytest")), f"--junitxml={results}", "-n", "3", *TESTS]
    command = [sys.executable, "-m", "tools.stack", "run", "--", *pytest, *arguments]
    status = subprocess.run(command, env={**os.environ, "MYSQL_URL": server.url}, check=False).returncode
    if not arguments and results.exists():
        RECORD.write_text(_build_record(server.load_version(), results))
        print(f"Written to {RECORD}")
    return status


def _build_record(version: str, results: Path) -> str:
    suite = next(ElementTree.parse(results).iter("testsuite"))
    failed = [
        f"- `{case.get('classname')}::{case.get('name')}`\n"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    return (
        "# MySQL\n\nWritten by `make test-mysql`; do not edit. The tests ran with MySQL as hive,"
        " ensembl_metadata and ledger.\n\n"
        f"- MySQL {version}: {suite.get('tests')} tests, {len(failed)} failed,"
        f" {float(suite.get('time', 0)):.0f} s.\n"
        f"- {describe_machine('PostgreSQL and RabbitMQ on it')}\n"
        + "".join(["\nFailed:\n\n", *failed] if failed else [])
    )


def main() -> int:
    """Run the tests with MySQL, stop it, and return the exit status."""
    server = MySQL(CHECKOUT / ".stack" / "mysql")
    try:
        server.ensure_running()
        return run_tests(server, sys.argv[1:])
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        server.processes.stop()


if __name__ == "__main__":
    sys.exit(main())
