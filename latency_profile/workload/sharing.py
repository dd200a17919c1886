"""What prompts share, and how much of it a prefix cache is meant to find. Pure; imports nothing but NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 16  # tokens; the smallest prefix-cache block of the usual servers, but for those that keep single tokens


def intended_hits(
    prompts: NDArray[np.int64],
    input_tokens: NDArray[Any],
    *,
    shared: int,
    groups: int,
    urls: NDArray[np.int64] | None = None,
    touched: int = 0,
    untouched: int = 0,
) -> NDArray[np.int64]:
    """Tokens of each prompt that a prefix cache is meant to have, if it keeps all that it saw. Shape of `prompts`.

    prompts: places in the workload, ascending; prompt k is of group k mod `groups`. urls: which server each goes to,
    with a cache of its own. touched: so many prompts, the workload's first, went before these, to the servers in turn,
    and left the prefixes of their groups in the caches of those; but for the first `untouched` of them. Only whole
    blocks count, the first prompt of a group finds none of them, and the last token of a prompt is always computed.
    """
    group = prompts % groups
    servers = 1 if urls is None else int(urls.max(initial=0)) + 1
    place = group if urls is None else group * servers + urls
    behind = untouched + groups * servers  # there, group and server come again
    before = np.arange(untouched, min(touched, behind))
    first = np.zeros(len(prompts), dtype=bool)
    first[np.unique(place, return_index=True)[1]] = True
    cold = first & ~np.isin(place, before % groups * servers + before % servers)
    most = np.minimum(shared, np.maximum(input_tokens.astype(np.int64) - 1, 0)) // BLOCK * BLOCK
    return np.where(cold, 0, most)
