"""Perl data, read and written by Perl itself, as in eHive's workers."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

INTERPRETER = ("/usr/bin/perl", str(Path(__file__).with_name("interpreter.pl")))


class PerlError(Exception):
    """The text is no Perl expression, or its value is not plain data."""


class Perl:
    """
    One Perl process for all threads; it is started at the first request, and again after its end.

    It evaluates the texts that it reads, as eHive does. A client of eHive therefore has to quote all values.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def read(self, text: str) -> Any:
        """
        Evaluate a Perl expression.

        :raises Unreadable: with Perl's own message.
        """
        return self._request({"read": text})

    def write(self, value: Any) -> str:
        """Return a value as Perl text, as eHive's ``stringify`` does."""
        return str(self._request({"write": value}))

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _request(self, request: dict[str, Any]) -> Any:
        with self._lock:
            process = self._process = self._process or self._start()
            try:
                process.stdin.write(json.dumps(request) + "\n")  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
                line = process.stdout.readline()  # type: ignore[union-attr]
            except BrokenPipeError:
                line = ""
            if not line:
                self._end()
                raise PerlError("the text ended the Perl process")
        response = json.loads(line)
        if "error" in response:
            raise PerlError(response["error"].strip())
        return response["value"]

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(INTERPRETER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="ascii")

    def _end(self) -> None:
        if process := self._process:
            self._process = None
            process.kill()
            process.communicate()
