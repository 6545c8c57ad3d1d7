"""How an event steers the practice jobs that it starts: its field ``practice``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Stage = Literal["entry", "dataflow", "child", "funnel", "after"]
"""``dataflow``: the entry, after it has written its children."""


class Practice(BaseModel):
    """What shall happen to the jobs of one event; nothing unusual, unless it is said."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    only: str | list[str] | None = Field(
        None, description="Entry analyses that all this applies to; else to all."
    )
    fail: Stage | None = Field(None, description="This stage fails for good; of the children, the first.")
    fail_once: Stage | None = Field(None, description="Its first attempt fails, the second succeeds.")
    fail_until_reset: Stage | None = Field(
        None, description="Fails until FAILED, succeeds after a person's reset."
    )
    message: str = Field("Practice makes perfect", description="What the failing job dies of.")
    pass_on: int = Field(0, description="How many jobs pass the entry's work on, each to one of x_again.")
    seconds: float = Field(0, description="How long every job of the event stays in RUN.")
    parts: int = Field(2, description="How many children the entry has.")
    result: str | None = Field(None, description="Written as the result instead of the JSON.")
    no_result: bool = Field(False, description="The funnel ends well, and writes no result.")
    shared: Literal["fan", "all"] | None = Field(
        None, description="What an equal event of another entry makes as well: the fan, or fan and funnel."
    )
    after_funnel: bool = Field(False, description="The funnel starts one more job, after the result.")

    @classmethod
    def of(cls, event: Any, entry_analysis: str) -> Practice:
        """
        Read the steering of an event.

        :raises ValueError: where it has a field that we do not know.
        """
        given = event.get("practice") if isinstance(event, dict) else None
        # Perl's false is an empty text, its null is undef.
        said = {k: v for k, v in given.items() if v not in ("", None)} if isinstance(given, dict) else {}
        practice = cls.model_validate(said)
        only = [practice.only] if isinstance(practice.only, str) else practice.only
        return practice if only is None or entry_analysis in only else cls()

    def fails(self, stage: Stage, *, attempts: int, errors: int, allowed: int) -> bool:
        """
        Tell whether this attempt of a job fails.

        :param attempts: of this job before, since it was last reset.
        :param errors: of this job, ever.
        :param allowed: how many attempts make the job FAILED.
        """
        return (
            stage == self.fail
            or (stage == self.fail_once and attempts == 0)
            or (stage == self.fail_until_reset and errors < allowed)
        )
