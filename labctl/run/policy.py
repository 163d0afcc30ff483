"""What is done when a point fails: try again, leave it out and say so, or end the run."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field


class FailurePolicy(BaseModel):
    """What is done when an instrument fails during a point.

    Between two tries the shutter is closed and read back, the link of the instrument is made anew, and every role is
    set up again. A light that cannot be confirmed to be off, a limit that was passed, and a disk that fails end the
    run at once, whatever is written here.

    :param retries: Further tries of a point.
    :param then: What follows the last of them: ``abort`` ends the run, ``skip`` leaves the point out and marks it.
    :param wait_s: Time before the first further try, in s; doubled before each of the next.
    :param patience_s: Time in s for which an instrument that drops off is waited for beyond these tries: it is tried
        again, at most every five minutes, until so long after the first failure.
    :param quarantine_after: Points in a row that one instrument may spoil; then it is quarantined, and the run ends.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    LONGEST_WAIT_S: ClassVar[float] = 300.0

    retries: Annotated[int, Field(ge=0, le=10)] = 2
    then: Literal["abort", "skip"] = "abort"
    wait_s: Annotated[float, Field(ge=0, le=600)] = 1.0
    patience_s: Annotated[float, Field(ge=0, le=7 * 86400, allow_inf_nan=False)] = 0.0
    quarantine_after: Annotated[int, Field(ge=1, le=100)] = 3

    def pause_s(self, tries: int) -> float:
        """Get the time in s before the next try, after ``tries`` further ones that failed."""
        return min(self.wait_s * 2.0 ** min(tries, 40), max(self.wait_s, self.LONGEST_WAIT_S))
