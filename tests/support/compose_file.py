"""docker-compose.yaml with its variables substituted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tools.airflow_services import CHECKOUT

FILE = CHECKOUT / "docker-compose.yaml"


def load_compose(values: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of the file with the variables of an .env file, as docker compose reads it."""

    def substitute(match: re.Match[str]) -> str:
        return values.get(match[1]) or match[2].removeprefix(":-")

    text = FILE.read_text().replace("$$", "\0")
    filled = re.sub(r"\$\{(\w+)(:-[^}]*|:\?[^}]*)?\}", substitute, text)
    return dict(yaml.safe_load(filled.replace("\0", "$")))


def iter_addresses(services: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield pairs of a service and an address in its environment."""
    for name, service in services.items():
        for value in service.get("environment", {}).values():
            if "://" in str(value):
                yield name, str(value)
