"""`benchmark_offline.py`, `latency-profile offline`: from flags to files."""

import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from latency_profile import __version__
from latency_profile.engines.exchange import Load, Ready
from latency_profile.engines.process import EngineLost, EngineProcess, Stopped
from latency_profile.errors import Exit, StorageError, UsageError
from latency_profile.interrupt import Interrupt, interrupts
from latency_profile.offline import finding, pictures, studies
from latency_profile.offline.files import files
from latency_profile.offline.flags import Flags, read
from latency_profile.offline.measure import CellRuns, measure
from latency_profile.offline.numbers import cell_result
from latency_profile.offline.structure import EngineSaid, OfflineResult, Study
from latency_profile.offline.studies import Cell
from latency_profile.offline.text import lines
from latency_profile.provenance import processor
from latency_profile.storage import Store, open_place
from latency_profile.workload import WorkloadSpec, prepare
from latency_profile.workload import tokenizer as tokenizers


def command(arguments: Sequence[str], environ: Mapping[str, str]) -> Exit:
    """Measures, prints and stores. Raises ProfileError. UNUSABLE where a cell has no figures or wrong ones."""
    flags = read(arguments)
    place = open_place(flags.output_dir)
    place.check()  # before hours are spent
    cells = {study: _cells(study, flags) for study in flags.study}
    with TemporaryDirectory(prefix="latency-profile-") as folder, interrupts() as interrupt:
        log = Path(folder) / "engine.log"
        measured, engines = _measured(cells, flags, environ, log, interrupt)
        if not engines:
            return interrupt.exit_code
        result = _result(flags, cells, measured, engines, interrupt)
        found = files(result)
        if log.stat().st_size:
            found[f"{flags.engine}-offline-{result.date}.log"] = log.read_bytes()
        said = lines(result)
        try:
            said += _store(place, found)
        finally:
            with suppress(BrokenPipeError):  # whoever read our output has gone; the exit code is still to be right
                print("\n".join(said), flush=True)
    if not pictures.available():
        print(pictures.LACKING, file=sys.stderr)
    for runs in measured:
        if runs.tail:
            print(f"{runs.cell.study} {runs.cell.label}, the engine's last words:\n{runs.tail}", file=sys.stderr)
    if interrupt:
        return interrupt.exit_code
    return Exit.UNUSABLE if any(cell.trouble for study in result.studies for cell in study.cells) else Exit.DONE


def _measured(
    cells: Mapping[str, Sequence[Cell]], flags: Flags, environ: Mapping[str, str], log: Path, interrupt: Interrupt
) -> tuple[list[CellRuns], list[Ready]]:
    """Studies that take the same engine share one, so that its runs are mixed."""
    found: list[CellRuns] = []
    engines: list[Ready] = []
    for wanted, names in _loads(cells, flags):
        together = [cell for study in names for cell in cells[study]]

        def opens(wanted: Load = wanted) -> EngineProcess:
            python = flags.engine_python or sys.executable
            return EngineProcess(python, wanted, log, environ, flags.timeout, lambda: bool(interrupt))

        try:
            repeats = [flags.repeats(cell.study) for cell in together]
            measured = measure(
                together, repeats, flags.seed, opens, _tell, [cell for of in cells.values() for cell in of]
            )
        except Stopped:
            break
        except (EngineLost, UsageError) as error:  # what other studies have measured stays
            tail = error.tail if isinstance(error, EngineLost) else ""
            if not engines:
                print(tail, end="\n" if tail else "", file=sys.stderr)
                raise
            found += [CellRuns(cell, trouble=str(error), tail=tail) for cell in together]
            continue
        found += measured.cells
        engines.append(measured.ready)
        if measured.stopped:
            break
    return found, engines


def _store(place: Store, found: Mapping[str, bytes]) -> list[str]:
    """Where each file is. Raises StorageError where the place takes no more; all files are in a folder of this machine
    then."""
    try:
        return [place.put(name, data) for name, data in found.items()]
    except StorageError as error:
        kept = Path(mkdtemp(prefix="latency-profile-results-"))
        for name, data in found.items():
            (kept / name).write_bytes(data)
        raise StorageError(f"{error}; everything is in {kept}") from error


def _loads(cells: Mapping[str, Sequence[Cell]], flags: Flags) -> Iterable[tuple[Load, list[str]]]:
    """Engines, and which studies each runs: those that differ in their longest request only share one."""
    alike: dict[Load, list[str]] = {}
    for study in cells:
        alike.setdefault(flags.load(study, 1), []).append(study)
    for studies_of in alike.values():
        longest = max(cell.longest for study in studies_of for cell in cells[study])
        yield flags.load(studies_of[0], longest), studies_of


def _cells(study: str, flags: Flags) -> list[Cell]:
    if study == studies.BATCH_SIZE:
        return studies.batch_size(flags.batch_sizes, flags.inputs, flags.outputs, flags.seed)
    if study == studies.SEQUENCE_LENGTH:
        return studies.sequence_length(flags.sequence_lengths, flags.num_requests, flags.seed)
    if study == studies.REQUEST_COUNT:
        return studies.request_count(flags.request_counts, flags.inputs, flags.outputs, flags.seed)
    if study == studies.SHAPES:
        return studies.shapes(flags.input_lens, flags.output_lens, flags.num_requests, flags.seed)
    if flags.dataset is None:
        return [studies.drawn(flags.num_prompts, flags.inputs, flags.outputs, flags.seed)]
    return [_dataset(flags)]


def _dataset(flags: Flags) -> Cell:
    """The data set's prompts as the model's tokenizer spells them."""
    name = flags.tokenizer or flags.model or "bundled"
    spec = WorkloadSpec(tokenizer=name, dataset=flags.dataset, models=("",), seed=flags.seed, nonce="", unique=False)
    requests = list(prepare(spec, flags.num_prompts).requests(0, flags.num_prompts))
    prompts = list(tokenizers.load(name).ids([request.prompt for request in requests], special=True))
    return studies.dataset(prompts, [request.output_length for request in requests])


def _result(
    flags: Flags,
    cells: Mapping[str, Sequence[Cell]],
    measured: Sequence[CellRuns],
    engines: Sequence[Ready],
    interrupt: Interrupt,
) -> OfflineResult:
    price = flags.machine_cost_per_hour_usd
    found = []
    for study in cells:
        of_study = [cell_result(runs, price, flags.utilization) for runs in measured if runs.cell.study == study]
        if of_study:
            found.append(
                Study(
                    name=study,  # type: ignore[arg-type]
                    max_num_batched_tokens=flags.load(study, 1).max_num_batched_tokens,
                    cells=of_study,
                    best=finding.best(of_study),
                    knee=finding.knee(study, of_study),
                    finding=finding.finding(study, of_study),
                )
            )
    return OfflineResult(
        date=time.strftime("%Y%m%d-%H%M%S", time.gmtime()),
        engines=[_said(engine) for engine in engines],
        settings=flags.plain(),
        machine_cost_per_hour_usd=price,
        studies=found,
        cut_short=interrupt.reason,
        provenance={
            "latency_profile": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processor": processor(),
            "host": platform.node(),
        },
    )


def _said(ready: Ready) -> EngineSaid:
    return EngineSaid(
        engine=ready.engine,
        version=ready.version,
        model=ready.model,
        device=ready.device,
        dtype=ready.dtype,
        vocabulary=ready.vocabulary,
        max_model_len=ready.max_model_len,
        requests_at_once=ready.at_once,
        continuous_batching=ready.continuous,
        load_s=ready.load_s,
    )


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
