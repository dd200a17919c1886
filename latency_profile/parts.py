"""From settings to the parts of a profile: the door, the server, the workload, where metrics and results are."""

import math
import os
import secrets as randomness
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from backends.base import Backend, Chosen, Options, Unsupported
from latency_profile.chunks.upload import PART_PATIENCE_S, Chunks
from latency_profile.errors import UsageError
from latency_profile.points import PlannedPoint
from latency_profile.server import Server, servers_at
from latency_profile.settings import Settings
from latency_profile.shards.meeting import Meeting
from latency_profile.storage import Store, open_folder
from latency_profile.storage.places import Place
from latency_profile.workload import Lengths, Workload, WorkloadSpec

if TYPE_CHECKING:
    from latency_profile.telemetry.source import Sources

SHORTEST_SECRET = 6  # characters
EVENTS_PER_PROCESS = 20_000  # a second: at some 20 µs each, less than half of a core


def choose_door(settings: Settings, backend: Backend) -> Chosen:
    """The door that --endpoint names. Raises UsageError."""
    options = Options(
        stream=settings.stream_request,
        ignore_eos=settings.ignore_eos,
        best_of=settings.best_of,
        use_beam_search=settings.use_beam_search,
        top_k=settings.top_k,
        temperature=settings.temperature,
        sax_model=settings.sax_model,
        extra_body=settings.extra_body,
    )
    grpc = settings.url[0].startswith("grpc") if settings.url else None
    try:
        return backend.choose(settings.endpoint, options, grpc=grpc)
    except KeyError:
        doors = ", ".join(f"{name} ({door.path})" for name, door in backend.doors.items())
        raise UsageError(
            f"{settings.spelled('endpoint')}: got {settings.endpoint!r}, takes generate (the first) or one of {doors}"
        ) from None
    except Unsupported as error:
        raise UsageError(str(error)) from None


def default_model(settings: Settings, backend: Backend, chosen: Chosen) -> str | None:
    """The model where --models names none: the one in the path, or what is said of a server that asks for no name."""
    if chosen.model is not None:
        return chosen.model
    return settings.sax_model or (None if chosen.door.names_model else backend.default_model)


def servers_of(settings: Settings, environ: Mapping[str, str], grpc: bool) -> list[Server]:
    """The servers that the settings name, in turn, with the headers that every request carries."""
    headers = list(settings.header)
    key = settings.api_key(environ)
    if key and not any(name.lower() == "authorization" for name, _ in headers):
        headers.append(("authorization", f"Bearer {key}"))
    ca_file = str(settings.ca_file) if settings.ca_file else None
    return servers_at(settings, headers, ca_file, grpc)


def secrets_of(settings: Settings, environ: Mapping[str, str]) -> tuple[str, ...]:
    """What no message may repeat: the key, and the values of the user's headers, whole and without their scheme
    ("Bearer"), the longest first. Shorter ones than any secret would only garble what a server says."""
    return secrets_in(settings.api_key(environ), settings.header)


def secrets_in(key: str | None, headers: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The same of a key and of headers' names and values."""
    found = {key or ""}
    for _, value in headers:
        found |= {value, value.rpartition(" ")[2]}
    return tuple(sorted((one for one in found if len(one) >= SHORTEST_SECRET), key=len, reverse=True))


def workload_spec(settings: Settings, models: tuple[str, ...], nonce: str) -> WorkloadSpec:
    return WorkloadSpec(
        tokenizer=settings.tokenizer,
        dataset=settings.dataset,
        dummy_text=settings.use_dummy_text,
        input_lengths=_lengths(
            settings.input_len, settings.input_len_stddev, settings.input_len_min, settings.input_len_max
        ),
        output_lengths=_lengths(
            settings.output_len, settings.output_len_stddev, settings.output_len_min, settings.output_len_max
        ),
        models=models,
        traffic_split=settings.traffic_split,
        max_input_length=settings.max_input_length,
        max_output_length=settings.max_output_length,
        seed=settings.seed,
        nonce=nonce,
        unique=settings.unique_prompts,
        shared_prefix=settings.shared_prefix,
        shared_prefix_groups=settings.shared_prefix_groups,
        trust_remote_code=settings.trust_remote_code,
        cache_dir=settings.cache_dir,
    )


def _lengths(mean: int | None, stddev: float, low: int | None, high: int | None) -> Lengths | None:
    if mean is None:
        return None
    if not stddev:
        return Lengths.fixed(mean)
    return Lengths(mean=mean, stddev=stddev, low=low or 1, high=high or math.ceil(mean + 6 * stddev))


def sender_processes(settings: Settings, points: list[PlannedPoint], workload: Workload) -> int:
    """Sender processes: as many as the steepest point's events need, and one core is left for the rest."""
    if settings.workers:
        return settings.workers
    finite = [point.rate for point in points if point.rate is not None and not math.isinf(point.rate)]
    lengths = [request.output_length for request in workload.requests(0, min(100, points[0].prompts))]
    if settings.max_rate is not None:
        finite.append(settings.max_rate)
    events = max(finite, default=0.0) * (sum(lengths) / len(lengths) if settings.stream_request and lengths else 1)
    cores = len(os.sched_getaffinity(0))
    return max(1, min(math.ceil(events / settings.shards / EVENTS_PER_PROCESS), cores - 1))


def open_stores(settings: Settings) -> list[Store]:
    if not settings.save_json_results:
        return []
    return [open_folder(settings.output_dir), *(place.open() for place in places_of(settings))]


def places_of(settings: Settings) -> list[Place]:
    """Where results go beside the local folder."""
    places = []
    patience_s = settings.upload_patience_seconds
    if settings.output_bucket:
        bucket, prefix = settings.output_bucket, settings.output_bucket_filepath
        places.append(Place(bucket=bucket, prefix=prefix, patience_s=patience_s))
    if settings.output_url:
        places.append(Place(url=settings.output_url, patience_s=patience_s))
    return places


def chunks_of(settings: Settings, attempt: str, secrets: tuple[str, ...], say: Callable[[str], None]) -> Chunks | None:
    """Where points are stored while they run; None where results go into the local folder only, as spools do."""
    places = places_of(settings)
    if not places:
        return None
    soon = [msgspec.structs.replace(place, patience_s=min(place.patience_s, PART_PATIENCE_S)) for place in places]
    # Nobody else can have chosen that name: a nonce may be fixed, and the same for every attempt and every night.
    own = f"{attempt}-{randomness.token_hex(4)}"
    return Chunks(soon, lambda number: f"{settings.run_id or 'parts'}/point-{number}/{own}/", secrets, say)


def meeting_of(settings: Settings, stores: list[Store]) -> Meeting | None:
    """Where the run's shards meet: in the last store, which is the one that all pods share where there are several."""
    if settings.shards == 1:
        return None
    index = settings.shard_index
    assert index is not None  # checked with the settings
    return Meeting(
        stores[-1], f"{settings.run_id}/", index=index, shards=settings.shards, timeout_s=settings.shard_timeout
    )


def metrics_source(settings: Settings, servers: list[Server], models: tuple[str, ...]) -> "Sources | None":
    """Where the server's metrics come from, found to be there; None where they are not asked for. Raises UsageError,
    ServerUnavailable."""
    if not settings.scrape_server_metrics:
        return None
    from latency_profile.telemetry.source import MetricsSpec, open_source

    source = open_source(
        MetricsSpec(
            kind="auto",
            servers=servers,
            backend=settings.backend,
            urls=settings.metrics_urls,
            models=models,
            prometheus_url=settings.prometheus_url,
            project=settings.pm_project,
            cluster=settings.pm_cluster,
            namespace=_pod_monitoring(settings, "pm_namespace"),
            job=_pod_monitoring(settings, "pm_job"),
        )
    )
    source.check()
    return source


def _pod_monitoring(settings: Settings, name: str) -> str | None:
    """Which pods' metrics to take. The defaults are those of Google's PodMonitoring; a Prometheus of one's own has
    other names, and is asked without any unless they are given."""
    value: str = getattr(settings, name)
    return value if settings.given(name) or settings.prometheus_url is None else None
