"""Read the results of pipelines from a hive's table ``result``, in statements of limited length."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from more_itertools import constrained_batches, partition, sliced
from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    Select,
    String,
    case,
    cast,
    func,
    inspect,
    null,
    select,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError

from event_hooks.database_errors import is_missing_column
from event_hooks.hive.sql.tables import CHUNK_ROWS, is_in, result

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

MAX_RESULT_BYTES = 16 * 2**20
"""Bytes of the longest result that is read whole; a longer one is truncated, and remains text."""

MAX_TRUNCATED_CHARS = 2**16
"""Characters that remain of a longer result."""

SMALL_BYTES = 2**14
"""Bytes up to which results are read together with the lengths of all results."""

MAX_STATEMENT_BYTES = MAX_RESULT_BYTES
"""Bytes of the longer results that one statement reads."""

_FULL_BYTES = {mysql.TINYTEXT: 2**8 - 1, mysql.TEXT: 2**16 - 1, mysql.MEDIUMTEXT: 2**24 - 1}
"""Bytes that the types of MySQL hold."""

_MAX_CHARACTER_BYTES = 4


@dataclass(frozen=True)
class StoredResult:
    """The ``result.output`` of a job."""

    text: str | None
    size: int = 0
    """Bytes in the hive."""

    problem: str | None = None
    """Why the text is not the complete result; it follows "its result"."""


class ResultReader:
    """
    Read the table ``result`` of a hive.

    :param connection: in autocommit mode, because a hive with other columns answers with an error.
    :param max_chars: read only this number of characters of each result, instead of the whole results.
    """

    def __init__(self, connection: Connection, max_chars: int | None = None) -> None:
        self._connection = connection
        self._max_chars = max_chars

    def load(
        self, job_ids: Sequence[int], max_bytes: float = math.inf
    ) -> tuple[dict[int, StoredResult], set[int]]:
        """
        Return ``{job_id: result}``, and the jobs with the results beyond ``max_bytes``.

        At least one result is returned, if there is any.
        """
        results, postponed, total = dict[int, StoredResult](), set[int](), 0
        for chunk in sliced(job_ids, CHUNK_ROWS):
            if total > max_bytes:
                postponed.update(chunk)
                continue
            try:
                rows = self._load_small(chunk)
            except DBAPIError as error:
                if not is_missing_column(error):
                    raise
                return dict.fromkeys(job_ids, StoredResult(None, problem=self._describe_columns())), set()
            small, large = partition(self._is_large, rows)
            results |= {row.job_id: self._build(row) for row in small}
            total += sum(row.size or 0 for row in rows if not self._is_large(row))
            selected: list[Any] = []
            for row in large:
                total += min(row.size, MAX_RESULT_BYTES)
                if total > max_bytes and (selected or results):
                    postponed.add(row.job_id)
                else:
                    selected.append(row)
            results |= dict(self._load_large(selected))
        return results, postponed

    def describe_full_column(self, stored: StoredResult) -> str | None:
        """Return the type of the column if the result fills it, so that its end may be missing."""
        column_type = self._column_type
        for text_type, full_bytes in _FULL_BYTES.items():
            if isinstance(column_type, text_type):
                is_full = full_bytes - _MAX_CHARACTER_BYTES < stored.size <= full_bytes
                return text_type.__name__ if is_full else None
        length = column_type.length if isinstance(column_type, String) else None
        return str(column_type) if length and len(stored.text or "") == length else None

    @cached_property
    def _column_type(self) -> TypeEngine[Any] | None:
        if self._connection.dialect.name == "sqlite":  # it stores longer texts
            return None
        columns = inspect(self._connection).get_columns(result.name)
        return next((column["type"] for column in columns if column["name"] == "output"), None)

    def _load_small(self, job_ids: Sequence[int]) -> Sequence[Any]:
        """Load the lengths of all results, with the beginnings, or with the texts of the short ones."""
        size, output = self._size(), result.c.output
        text: ColumnElement[Any] = case((size <= SMALL_BYTES, output), else_=null())
        if self._max_chars is not None:
            text = func.substr(output, 1, self._max_chars + 1)
        return self._select(job_ids, size.label("size"), text.label("output"))

    def _load_large(self, rows: Sequence[Any]) -> Iterator[tuple[int, StoredResult]]:
        """Load the texts of results; the rows have only their lengths."""
        too_long = [row for row in rows if row.size > MAX_RESULT_BYTES]
        beginning = func.substr(result.c.output, 1, MAX_TRUNCATED_CHARS).label("output")
        for chunk in sliced(too_long, CHUNK_ROWS):
            for job_id, text in self._select([row.job_id for row in chunk], beginning):
                problem = f"is longer than {MAX_RESULT_BYTES:,} bytes"
                yield job_id, StoredResult(_decode(text), MAX_RESULT_BYTES + 1, problem)
        complete = [row for row in rows if row.size <= MAX_RESULT_BYTES]
        for batch in constrained_batches(complete, MAX_STATEMENT_BYTES, get_len=lambda row: row.size):
            sizes = {row.job_id: row.size for row in batch}
            for job_id, text in self._select(list(sizes), result.c.output):
                yield job_id, StoredResult(_decode(text), sizes[job_id], _describe_missing(text))

    def _select(self, job_ids: Sequence[int], *columns: ColumnElement[Any]) -> Sequence[Any]:
        statement: Select[Any] = select(result.c.job_id, *columns).where(is_in(result.c.job_id, job_ids))
        return self._connection.execute(statement).all()

    def _size(self) -> ColumnElement[int]:
        if self._connection.dialect.name == "sqlite":
            return func.length(cast(result.c.output, LargeBinary))
        return func.length(result.c.output)

    def _is_large(self, row: Any) -> bool:
        return self._max_chars is None and (row.size or 0) > SMALL_BYTES

    def _build(self, row: Any) -> StoredResult:
        text = _decode(row.output)
        if text is not None and self._max_chars is not None and len(text) > self._max_chars:
            problem = f"is longer than {self._max_chars:,} characters"
            return StoredResult(text[: self._max_chars], row.size, problem)
        return StoredResult(text, row.size or 0)

    def _describe_columns(self) -> str:
        names = [column["name"] for column in inspect(self._connection).get_columns(result.name)]
        return (
            "cannot be read: the hive's table `result` has the columns"
            f" {', '.join(names)}, and job_id and output were expected"
        )


def _decode(value: str | bytes | None) -> str | None:
    """Return the text of a column, also of one with a binary type."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _describe_missing(text: str | bytes | None) -> str | None:
    return None if text is not None else "was changed while it was read"
