"""Values that are made once and then stay: passwords, keys, ports."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.private_files import write_private


class Kept:
    """Named values in one file that only its owner can read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """Give a value, which is made when first asked for."""
        values = self._read()
        if name not in values:
            self.set(name, make())
            values = self._read()
        return values[name]

    def local(self, name: str, make: Callable[[], Any]) -> Any:
        """Like ``get``, but made anew in a copied or moved folder: two checkouts must not share a port."""
        here = str(self.path.parent)
        there, value = self.get(name, lambda: (here, make()))
        return value if there == here else self.renew(name, make)

    def renew(self, name: str, make: Callable[[], Any]) -> Any:
        """Replace a ``local`` value."""
        value = make()
        self.set(name, (str(self.path.parent), value))
        return value

    def set(self, name: str, value: Any) -> None:
        """Keep a value from now on."""
        write_private(self.path, json.dumps({**self._read(), name: value}, indent=2) + "\n")

    def _read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}
