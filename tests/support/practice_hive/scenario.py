"""The field ``practice`` of an event, which controls its practice jobs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Stage = Literal["entry", "dataflow", "child", "funnel", "after"]
"""``dataflow``: the entry job, after it has stored its children."""


class Scenario(BaseModel):
    """The behaviour of the jobs of one event; by default they succeed at once."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    only: str | list[str] | None = Field(
        None, description="Entry analyses to which the other fields apply; default: all."
    )
    fail: Stage | None = Field(None, description="This stage always fails; of the children, only the first.")
    fail_once: Stage | None = Field(
        None, description="The first attempt of this stage fails, the second succeeds."
    )
    fail_until_reset: Stage | None = Field(
        None, description="This stage fails until it is FAILED, and succeeds after a reset."
    )
    message: str = Field("Practice makes perfect", description="Error message of the failing job.")
    pass_on: int = Field(0, description="How many jobs are PASSED_ON, each to a job of x_again.")
    seconds: float = Field(0, description="How long each job of the event is in RUN.")
    parts: int = Field(2, description="Number of children of the entry job.")
    result: str | None = Field(None, description="Result text, instead of the JSON.")
    no_result: bool = Field(False, description="The funnel succeeds without a result.")
    shared: Literal["fan", "all"] | None = Field(
        None, description="Jobs that are duplicates of those of an equal event: the fan, or fan and funnel."
    )
    after_funnel: bool = Field(False, description="After the result, the funnel creates one more job.")

    @classmethod
    def from_event(cls, event: Any, entry_analysis: str) -> Scenario:
        """
        Return the scenario of an event for the jobs of an entry analysis.

        :raises ValueError: a field of ``practice`` is unknown or has a wrong type.
        """
        practice = event.get("practice") if isinstance(event, dict) else None
        # Perl's false is an empty text, and its null is undef.
        fields = (
            {name: value for name, value in practice.items() if value not in ("", None)}
            if isinstance(practice, dict)
            else {}
        )
        scenario = cls.model_validate(fields)
        analyses = [scenario.only] if isinstance(scenario.only, str) else scenario.only
        return scenario if analyses is None or entry_analysis in analyses else cls()

    def fails(self, stage: Stage, *, attempts: int, errors: int, max_attempts: int) -> bool:
        """
        Return whether this attempt of a job fails.

        :param attempts: earlier attempts since the last reset.
        :param errors: all earlier errors of this job.
        :param max_attempts: number of failed attempts after which the job is FAILED.
        """
        return (
            stage == self.fail
            or (stage == self.fail_once and attempts == 0)
            or (stage == self.fail_until_reset and errors < max_attempts)
        )
