"""Whether the limit of open files lets a plan have the connections that it may need at once. Pure.

A connection is an open file, and the limit is of each sender process. One that is reached makes requests wait, which is
lateness of this client's own making: better known before the first of them.
"""

import math
from collections.abc import Sequence

from latency_profile.errors import UsageError
from latency_profile.points import PlannedPoint

SPARE_FILES = 200  # open files that are not connections
# An open loop has rate × E2E requests in flight (Little's law), and nobody knows E2E before. Answers of a minute on
# average are rare, and the answers of a server that is pushed beyond what it can do are longer than that.
LONG_ANSWER_S = 60.0


def check_open_files(
    points: Sequence[PlannedPoint], open_files: int, processes: int, connection_limit: int, urls: int
) -> str | None:
    """A notice where some point may need more connections than its processes may have; None where all have enough.

    open_files: the limit of each process. connection_limit: most connections of the whole point by --tcp-conn-limit, 0
    for none: a user who limits them lower has asked for it. Raises UsageError where a closed loop certainly needs more.
    """
    tight: list[str] = []
    for point in points:
        shards = point.shards(processes, connection_limit, urls)
        most = max(1, open_files - SPARE_FILES) * shards
        if connection_limit and connection_limit <= most * point.pods:
            continue
        by = f"the limit of open files ({open_files} a process, {shards} sending) lets it have {most} connections"
        if point.concurrency is not None:
            needed = point.own(min(point.concurrency, point.prompts))
            if needed > most:
                raise UsageError(
                    f"--concurrencies: got {point.concurrency}, takes at most {most * point.pods}: {by}; raise it "
                    f"(ulimit -n, or the container runtime's limit), or --workers"
                )
        elif point.rate is None or math.isinf(point.rate):
            needed = point.own(point.prompts)
            if needed > most:
                tight.append(f"{point.label}: {by}, of the {needed} that it may need at once")
        elif (longest_s := most / (point.rate / point.pods)) < LONG_ANSWER_S:
            tight.append(f"{point.label}: {by}; with answers of more than {longest_s:.3g} s on average, requests wait")
    if not tight:
        return None
    more = f" (and {len(tight) - 1} more)" if len(tight) > 1 else ""
    return f"{tight[-1]}{more}"  # the last is most often the steepest
