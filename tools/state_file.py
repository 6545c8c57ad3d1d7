"""Values that are generated once and then reused: passwords, keys, ports."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.private_files import write_private


class StateFile:
    """
    Named JSON values in one file that only its owner can read.

    :param path: need not exist; the first value creates it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get_or_create(self, name: str, create: Callable[[], Any]) -> Any:
        """Return a value; generate and store it if it is missing."""
        values = self._read()
        if name not in values:
            self.store(name, create())
            values = self._read()
        return values[name]

    def get_or_create_local(self, name: str, create: Callable[[], Any]) -> Any:
        """
        Return a value that is valid in this folder only.

        A copied or moved folder generates another value: two checkouts must not share a port.
        """
        folder = str(self.path.parent)
        stored_folder, value = self.get_or_create(name, lambda: (folder, create()))
        return value if stored_folder == folder else self.replace_local(name, create)

    def replace_local(self, name: str, create: Callable[[], Any]) -> Any:
        """Generate a new value for :meth:`get_or_create_local`, store it, and return it."""
        value = create()
        self.store(name, (str(self.path.parent), value))
        return value

    def store(self, name: str, value: Any) -> None:
        """Store a value, which replaces an earlier one of this name."""
        write_private(self.path, json.dumps({**self._read(), name: value}, indent=2) + "\n")

    def _read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}
