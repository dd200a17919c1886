"""The forms that a page has, from the richest to the leanest: the first that is small enough is taken."""

from dataclasses import dataclass

from latency_profile.page.points.distributions import HEADING as LATENCIES
from latency_profile.page.points.evidence import HEADING as EVIDENCE
from latency_profile.page.points.failures import HEADING as FAILURES
from latency_profile.page.points.first_token import HEADING as FIRST_TOKEN
from latency_profile.page.points.load import HEADING as OVER_TIME
from latency_profile.page.points.machines import MACHINES, SERVER
from latency_profile.page.points.slowest import HEADING as SLOWEST

LIMIT_BYTES = 2_000_000
_TABLES_STAY = "those with a table keep it"
_ONE = "`latency-profile report` of fewer points has them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """packed: what stands in parts that are folded is packed, and unpacked by the script once it is asked for.
    undrawn: sections of points whose figures are left out. nights: whether those of comparisons are there. each:
    whether points have sections at all. said: what a reader is told of it."""

    packed: bool = True
    undrawn: tuple[str, ...] = ()
    nights: bool = True
    each: bool = True

    @property
    def said(self) -> tuple[str, ...]:
        found = []
        if self.undrawn and self.each:
            figures = ", ".join(f"“{heading}”" for heading in self.undrawn)
            found.append(
                f"So that the page stays small, points have no figures of {figures}; {_TABLES_STAY}, and {_ONE}."
            )
        if not self.each:
            found.append(
                f"So that the page stays small, it has no details of single points, whose numbers and verdicts are in "
                f"the tables of all points; {_ONE}."
            )
        if not self.nights:
            found.append(f"So that the page stays small, nights are not drawn; {_TABLES_STAY}.")
        return tuple(found)


_WORTH = ((MACHINES, SERVER), (SLOWEST,), (FIRST_TOKEN,), (OVER_TIME, FAILURES), (LATENCIES, EVIDENCE))  # least first
FORMS = (
    Form(packed=False),
    Form(),
    *(Form(undrawn=tuple(name for names in _WORTH[: k + 1] for name in names)) for k in range(len(_WORTH))),
    Form(undrawn=tuple(name for names in _WORTH for name in names), nights=False),
    Form(each=False, nights=False),
)
