"""A small HTTP server with prepared answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], Any]


class JsonServer(ThreadingHTTPServer):
    """Sends its answers in order, after ``seconds``; repeats the last one; status 0 closes the connection."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer] = [(200, {}, {})]
        self.seconds = 0.0
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []

    @property
    def uri(self) -> str:
        """Address of the API."""
        return f"http://127.0.0.1:{self.server_port}/event-hooks"


@contextmanager
def run_json_server() -> Iterator[JsonServer]:
    """Run the server until the end of the block."""
    with JsonServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: JsonServer

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = (self.command, self.path, dict(self.headers), json.loads(body) if body else None)
        self.server.requests.append(request)
        time.sleep(self.server.seconds)
        answers = self.server.answers
        status, headers, value = answers.pop(0) if len(answers) > 1 else answers[0]
        if not status:
            return
        text = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        for name, content in {**headers, "Content-Length": str(len(text))}.items():
            self.send_header(name, content)
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 (http.server's names)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""
