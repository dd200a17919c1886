"""Spells requests as the server wants them, before any is due: bodies in one file, and where each of them goes."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.base import Chosen, Request


@dataclass(frozen=True, slots=True)
class Asked:
    """Requests of one point on disk. `columns` are of the records, shape (requests,)."""

    bodies: Path
    bounds: Path  # int64: where each body begins, and where the last one ends
    paths: list[str]  # all that requests go to …
    path_of: Path | None  # … and, where there are several, uint16: which of them each one goes to
    columns: dict[str, NDArray[Any]]


def spell(chosen: Chosen, models: tuple[str, ...], requests: Iterable[Request], count: int, folder: Path) -> Asked:
    """Writes the files of `count` requests into the folder."""
    bodies, bounds, path_of = folder / "bodies", folder / "bounds", folder / "paths"
    model_numbers = {model: number for number, model in enumerate(models)}
    ends = np.zeros(count + 1, dtype=np.int64)
    columns = {name: np.zeros(count, dtype=np.int64) for name in ("model", "input_tokens", "wanted_tokens")}
    with bodies.open("wb") as file:
        for place, request in enumerate(requests):
            ends[place + 1] = ends[place] + file.write(chosen.door.body(request))
            columns["model"][place] = model_numbers[request.model]
            columns["input_tokens"][place] = request.input_length
            columns["wanted_tokens"][place] = request.output_length
    ends.tofile(bounds)
    of_model = [chosen.path_for(model) for model in models]
    paths = list(dict.fromkeys(of_model))
    if len(paths) > 1:
        numbers = np.array([paths.index(path) for path in of_model], dtype=np.uint16)
        numbers[columns["model"]].tofile(path_of)
    return Asked(bodies, bounds, paths, path_of if len(paths) > 1 else None, columns)
