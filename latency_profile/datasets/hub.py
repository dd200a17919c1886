"""Where a data set is: a file here, or one of the Hugging Face hub, which is asked only where its name is given."""

import logging
import re
from pathlib import Path
from typing import NamedTuple

from latency_profile.errors import ServerUnavailable, UsageError
from latency_profile.local_path import local_path
from latency_profile.workload.hub import refusal

SCHEME = "hf://"
_SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")
_NAME = re.compile(r"[\w.-]+/[\w.-]+(/[\w./-]+)?")


class _OnHub(NamedTuple):
    repository: str
    file: str | None  # None: the only data file that it has


KNOWN = {
    "orca": _OnHub("Open-Orca/OpenOrca", "1M-GPT4-Augmented.parquet"),
    "mbpp": _OnHub("Muennighoff/mbpp", "data/mbpp.jsonl"),
    "math-500": _OnHub("HuggingFaceH4/MATH-500", "test.jsonl"),
    "sharegpt": _OnHub("anon8231489123/ShareGPT_Vicuna_unfiltered", "ShareGPT_V3_unfiltered_cleaned_split.json"),
}
TAKES = f"it takes a file, {SCHEME}OWNER/NAME or {SCHEME}OWNER/NAME/FILE, or one of {', '.join(KNOWN)}"


def local(source: str) -> Path:
    """The file itself; one of the hub is downloaded into the hub's own cache first. Raises UsageError where there is
    none, and ServerUnavailable where the hub cannot be reached now."""
    path = local_path(source)
    if not source.startswith(SCHEME):
        if path.exists() or source not in KNOWN:
            return path
        return _downloaded(source, KNOWN[source])
    name = source.removeprefix(SCHEME)
    if not _NAME.fullmatch(name):
        raise UsageError(f"{source}: no name on the hub; {TAKES}")
    owner, repository, *file = name.split("/", 2)
    return _downloaded(source, _OnHub(f"{owner}/{repository}", file[0] if file else None))


def _downloaded(source: str, where: _OnHub) -> Path:
    from huggingface_hub import constants, errors, hf_hub_download

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it would say each of its own attempts
    try:
        file = where.file or _only_file(source, where.repository)
        return Path(hf_hub_download(where.repository, file, repo_type="dataset"))
    except errors.LocalEntryNotFoundError as error:
        if constants.HF_HUB_OFFLINE:
            raise UsageError(f"{source}: HF_HUB_OFFLINE is set, and the hub's cache has no such file") from error
        raise ServerUnavailable(f"{source}: the Hugging Face hub cannot be reached; a file takes no hub") from error
    except UsageError:
        raise
    except Exception as error:  # network and hub errors of many kinds
        raise refusal(source, error, TAKES) from error


def _only_file(source: str, repository: str) -> str:
    from huggingface_hub import HfApi

    files = [
        name for name in HfApi().list_repo_files(repository, repo_type="dataset") if name.lower().endswith(_SUFFIXES)
    ]
    if len(files) == 1:
        return files[0]
    if not files:
        raise UsageError(f"{source}: it has no file of {', '.join(_SUFFIXES)}")
    shown = ", ".join(files[:8]) + (f" and {len(files) - 8} more" if len(files) > 8 else "")
    raise UsageError(f"{source}: it has several files; name one as {SCHEME}{repository}/FILE: {shown}")
