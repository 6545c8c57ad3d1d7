"""A hive whose server writes a binary log of statements, which excludes READ COMMITTED."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, event

from event_hooks.hive.hook import HiveHook
from event_hooks.hive.sql.control import ControlResult
from tests.integration.hive.conftest import build_inputs, count_jobs, load_counters, load_status, submit_job
from tests.integration.hives import HivePool, MakeHive, PracticeHive
from tools.mariadb import MariaDB


class LoggingMariaDB(MariaDB):
    """A second MariaDB, with a binary log of statements."""

    variable = "NO_URL"

    def prepare_command(self) -> Sequence[str]:
        """Return the command line with the options of the binary log."""
        return [*super().prepare_command(), "--log-bin=binary-log", "--binlog-format=STATEMENT"]


@pytest.fixture(scope="module")
def logging_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HivePool]:
    """The pool of hive databases on this server."""
    server = LoggingMariaDB(tmp_path_factory.mktemp("logging"))
    server.ensure_running()
    with HivePool(server.url.rstrip("/"), {}) as pool:
        yield pool
    server.processes.stop()


@pytest.fixture
def hive(
    logging_pool: HivePool, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PracticeHive]:
    """A hive without jobs on this server."""
    make_hive: MakeHive
    with logging_pool.hives(tmp_path_factory.getbasetemp(), monkeypatch) as make_hive:
        yield make_hive()


def test_submit_reset_and_stop_work_and_only_the_first_transaction_is_repeated(hive: PracticeHive) -> None:
    codes: list[int] = []
    event.listen(Engine, "handle_error", lambda context: codes.append(context.original_exception.args[0]))
    hook = HiveHook(hive.conn_id)
    failed_id, ready_id = hook.submit("event_dump_dna", build_inputs(2, 300))
    assert codes == [1665]
    hive.execute("UPDATE job SET status = 'FAILED' WHERE job_id = :id", id=failed_id)
    hive.execute("UPDATE analysis_stats SET ready_job_count = 1, failed_job_count = 1 WHERE analysis_id = 1")
    assert hook.reset_jobs({failed_id: None}) == ControlResult([failed_id], [])
    assert hook.stop_jobs({ready_id: None}) == ControlResult([ready_id], [])
    assert (load_status(hive, failed_id), load_status(hive, ready_id)) == ("READY", "DONE")
    assert load_counters(hive) == count_jobs(hive)
    assert codes == [1665]


def test_concurrent_submissions_create_one_job(hive: PracticeHive) -> None:
    submit_job(hive)
    inputs = build_inputs(5)
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: HiveHook(hive.conn_id).submit("event_dump_dna", inputs), range(12)))
    assert all(job_ids == results[0] for job_ids in results)
    assert hive.fetch_rows("SELECT COUNT(*) FROM job") == [(6,)]
    assert load_counters(hive) == count_jobs(hive)
