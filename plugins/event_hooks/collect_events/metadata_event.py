"""An event of ensembl_metadata, and the event that event hooks make of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from event_hooks.events.models import EXTRA_FIELDS_PARAM

MAX_DETAILS_LENGTH = 2000
"""Characters of details that are not JSON. Old rows hold free text there."""

RESERVED_FIELDS = ("force", "reason", "follows", "joined", "event_hooks", EXTRA_FIELDS_PARAM)
"""Fields of the details that are left out, because they have another meaning in an event."""

_SPECIAL_CHARACTERS = re.compile(r"[^\w .-]", re.ASCII)


@dataclass(frozen=True)
class MetadataEvent:
    """A row of one of the three event tables, with the genome or database that it is about."""

    table: str
    id: int
    type: str
    source: str | None
    creation_time: datetime
    """UTC, without a zone, in whole seconds."""

    details: str | None
    """JSON, or free text in old rows; MySQL may have cut it at 64 KiB."""

    subject: str | None
    """Name of the organism, or of the database."""

    name: str | None
    """Name of the organism; ``None`` for an event without a genome."""

    division: str | None
    release: int | None
    eg_release: int | None
    assembly: str | None
    assembly_accession: str | None
    genebuild: str | None

    @property
    def lookup_type(self) -> str:
        """Return the type as the event lookup spells it: ``new_assembly`` for ``New assembly``."""
        return re.sub(r"[^a-z0-9.]+", "_", self.type.strip().lower()).strip("_") or "other"

    @property
    def event_id(self) -> str:
        """
        Return an id that no other event has, from values that no UPDATE of names changes.

        The row's id is not enough: a second handover of a genome deletes its events, and the database may
        assign their ids again. With another creation time it is another event; within the same second it is
        a duplicate.
        """
        return f"{self.table}/{self.id}/{self.creation_time:%Y%m%dT%H%M%S}"

    def payload(self, is_safe: Callable[[str, Any], bool]) -> dict[str, Any]:
        """
        Return the event's fields; the details come first and cannot replace any of the other fields.

        :param is_safe: return whether this field (name, value) of the details can be stored and handed to a
            job. Unsafe fields are left out and named in ``left_out``, so they do not reject the event. In an
            unsafe name, ``?`` replaces the special characters.
        """
        return {**self._parse_details(is_safe), **self._common_fields(), **self._subject_fields()}

    def _parse_details(self, is_safe: Callable[[str, Any], bool]) -> dict[str, Any]:
        """Return the email, comment, database and further fields of the details."""
        if not self.details:
            return {}
        try:
            details = json.loads(self.details)
        except (ValueError, RecursionError):
            details = None
        fields = details if isinstance(details, dict) else {"details": self.details[:MAX_DETAILS_LENGTH]}
        safe = {
            name: value
            for name, value in fields.items()
            if name not in RESERVED_FIELDS and is_safe(name, value)
        }
        left_out = sorted(
            name if is_safe(name, None) else _SPECIAL_CHARACTERS.sub("?", name)
            for name in fields.keys() - safe.keys()
        )
        return {**safe, "left_out": left_out} if left_out else safe

    def _common_fields(self) -> dict[str, Any]:
        return {
            "type": self.lookup_type,
            "genome": self.name,
            "event_id": self.event_id,
            "source": self.source,
            "creation_time": self.creation_time.replace(tzinfo=UTC).isoformat(),
            "division": self.division,
            "release": self.release,
            "eg_release": self.eg_release,
        }

    def _subject_fields(self) -> dict[str, Any]:
        if self.name is None:
            return {"subject": self.subject}
        return {
            "assembly": self.assembly,
            "assembly_accession": self.assembly_accession,
            "genebuild": self.genebuild,
        }
