"""What one should know of a point although it does not change its verdict."""

from latency_profile.verdict.contamination import cache_unknown
from latency_profile.verdict.evidence import Evidence
from latency_profile.verdict.failures import failures
from latency_profile.verdict.kinds import Remark
from latency_profile.verdict.restart import restarted
from latency_profile.verdict.shards import shards_remarks
from latency_profile.verdict.steadiness import unsteady
from latency_profile.verdict.throttled import throttled
from latency_profile.verdict.tokens import several_tokens_an_event, tokens_disagree
from latency_profile.verdict.traffic import server_disagrees


def remarks(known: Evidence) -> list[Remark]:
    """In the order in which they matter."""
    return [
        *unsteady(known),
        *failures(known),
        *restarted(known),
        *tokens_disagree(known),
        *several_tokens_an_event(known),
        *cache_unknown(known),
        *shards_remarks(known),
        *server_disagrees(known),
        *throttled(known),
    ]
