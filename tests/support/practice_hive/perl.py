"""Perl data, read and written by the real Perl, as eHive's workers do it."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

INTERPRETER = ("/usr/bin/perl", str(Path(__file__).with_name("interpreter.pl")))


class Unreadable(Exception):
    """The text is no Perl expression, or one whose value is not plain data."""


class Perl:
    """
    One Perl process, started when first asked and again if it dies; threads take turns.

    It evaluates what it reads: that is how eHive works, and why a client must quote well.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._turn = threading.Lock()

    def read(self, text: str) -> Any:
        """
        Evaluate a Perl expression.

        :raises Unreadable: with Perl's own words.
        """
        return self._ask({"read": text})

    def write(self, value: Any) -> str:
        """Give the value as eHive's ``stringify`` does."""
        return str(self._ask({"write": value}))

    def close(self) -> None:
        """End the process."""
        with self._turn:
            self._end()

    def _ask(self, request: dict[str, Any]) -> Any:
        with self._turn:
            process = self._process = self._process or self._start()
            try:
                process.stdin.write(json.dumps(request) + "\n")  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
                line = process.stdout.readline()  # type: ignore[union-attr]
            except BrokenPipeError:
                line = ""
            if not line:
                self._end()
                raise Unreadable("the text ended the Perl process")
        answer = json.loads(line)
        if "error" in answer:
            raise Unreadable(answer["error"].strip())
        return answer["value"]

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(INTERPRETER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="ascii")

    def _end(self) -> None:
        if process := self._process:
            self._process = None
            process.kill()
            process.communicate()
