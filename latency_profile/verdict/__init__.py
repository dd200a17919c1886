"""What may be concluded from a point. Pure: the same records give the same verdict.

Each limit is a named constant with its reason; each reason that is given states the figure and the limit.
"""

from latency_profile.verdict.judge import judge
from latency_profile.verdict.kinds import UNUSABLE, Kind, Name, Remark, Verdict, exit_code

__all__ = ["UNUSABLE", "Kind", "Name", "Remark", "Verdict", "exit_code", "judge"]
