"""An event as ensembl_metadata has it, and as we hand it over."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

LONGEST = 2000
"""Characters of details that are no JSON; they are for people."""


@dataclass(frozen=True)
class Found:
    """A row of one of the three event tables, with what it is about."""

    table: str
    id: int
    type: str
    source: str | None
    creation_time: datetime
    """UTC, without a zone; whole seconds."""

    details: str | None
    subject: str | None
    """What is told apart by it: the organism's name, or the database's."""

    name: str | None
    """The organism's; None where an event is of no genome."""

    division: str | None
    release: int | None
    eg_release: int | None
    assembly: str | None
    assembly_accession: str | None
    genebuild: str | None

    @property
    def kind(self) -> str:
        """Give the type as our lookups spell it: ``New assembly`` is ``new_assembly``."""
        return re.sub(r"[^a-z0-9.]+", "_", self.type.strip().lower()).strip("_") or "other"

    @property
    def event_id(self) -> str:
        """
        Give what tells this event from all others.

        Not its id alone: that is given anew after a genome was handed over again, with its events deleted.
        """
        time = self.creation_time.strftime("%Y%m%dT%H%M%S")
        subject = "/".join(str(part) for part in (self.division, self.release, self.subject))
        return f"{self.table}/{self.id}/{time}/{subject}"

    def payload(self, is_safe: Callable[[str, Any], bool]) -> dict[str, Any]:
        """
        Give the event as it is handed over.

        :param is_safe: tells whether a field of its details can be given to a job; else it is left out, and
            named in ``left_out``: a comment shall not keep an event from being done.
        """
        about = {
            "type": self.kind,
            "genome": self.name,
            "event_id": self.event_id,
            "source": self.source,
            "creation_time": self.creation_time.replace(tzinfo=UTC).isoformat(),
            "division": self.division,
            "release": self.release,
            "eg_release": self.eg_release,
        }
        if self.name is not None:
            about |= {
                "assembly": self.assembly,
                "assembly_accession": self.assembly_accession,
                "genebuild": self.genebuild,
            }
        else:
            about["subject"] = self.subject
        return {**self._details(is_safe), **about}

    def _details(self, is_safe: Callable[[str, Any], bool]) -> dict[str, Any]:
        """Give email, comment, database and what else there is; old rows hold text, which may be cut."""
        if not self.details:
            return {}
        try:
            read = json.loads(self.details)
        except (ValueError, RecursionError):
            read = None
        fields = read if isinstance(read, dict) else {"details": self.details[:LONGEST]}
        kept = {name: value for name, value in fields.items() if name not in _OURS and is_safe(name, value)}
        return (
            kept
            if len(kept) == len(fields)
            else {**kept, "left_out": sorted(map(str, set(fields) - set(kept)))}
        )


_OURS = ("force", "reason", "follows", "joined", "event_hooks")
"""Fields that would say something else in an event."""
