"""What a profile would do: its plan, how long sending takes, the prompts that it needs, the first request's bytes."""

from typing import TextIO

from backends.base import Chosen
from latency_profile.points import PlannedPoint, prompts_of
from latency_profile.report.progress import clock_text
from latency_profile.sender.job import joined
from latency_profile.server import Server
from latency_profile.settings import Settings
from latency_profile.workload import Workload

SHOWN_BODY = 2000  # bytes of the first request's body


def describe(
    settings: Settings,
    chosen: Chosen,
    points: list[PlannedPoint],
    workload: Workload,
    servers: list[Server],
    out: TextIO,
) -> None:
    """Prints it. Opens no connection; values of headers that may be secret are not shown."""
    total = 0.0
    open_end = False
    of = "" if settings.find_capacity else f" of {len(points)}"
    for point in points:
        planned = point.planned_s
        open_end = open_end or planned is None
        total += planned or 0.0
        if planned is not None:
            length = f"sent within {planned:.1f} s"
        else:
            length = "all at once" if point.concurrency is None else "as fast as the server answers"
        most = "at most " if point.probe else ""
        out.write(f"point {point.number + 1}{of}: {point.label}, {most}{point.prompts} requests, {length}\n")
    if settings.adaptive_rates is not None:
        low, high = settings.request_rates
        left = settings.adaptive_rates - len(points)
        out.write(f"then up to {left} more between {low:.12g} and {high:.12g} req/s, chosen from what was measured\n")
        total += left * (settings.benchmark_time_seconds or 0.0)
        open_end = open_end or (left > 0 and settings.benchmark_time_seconds is None)
    total += settings.sleep_seconds * ((settings.adaptive_rates or len(points)) - 1)
    if settings.find_capacity:
        top = f"{settings.max_rate:.12g} req/s" if settings.max_rate else f"{settings.concurrencies[1]} in flight"
        out.write(f"then as many more as the search takes, up to {top}\n")
        total = settings.max_duration
    bound = "at most " if settings.find_capacity else "at least " if open_end else ""
    out.write(f"sending takes {bound}{clock_text(total)}\n")
    at_most = "at most " if settings.adaptive_rates is not None or settings.find_capacity else ""
    out.write(f"prompts: {at_most}{prompts_of(settings, points)}\n")
    if settings.shared_prefix:
        meant = [
            workload.intended_hit_rate(
                point.first_prompt, point.prompts, touched=0 if settings.reset_cache else point.first_prompt
            )
            for point in points
        ]
        out.write(
            f"shared prefix: {settings.shared_prefix} tokens, groups: {settings.shared_prefix_groups}; intended hit "
            f"rate of the prefix cache, point by point: {', '.join(f'{rate:.1%}' for rate in meant)}\n"
        )
    for notice in workload.notices:
        out.write(f"{notice}\n")
    request, server = next(iter(workload.requests(0, 1))), servers[0]
    if not request.model:
        out.write("model: the server is asked for its name\n")
    if len(servers) > 1:
        out.write(f"requests go to {', '.join(each.url for each in servers)} in turn\n")
    body = chosen.door.body(request)
    path = joined(server.prefix, chosen.path_for(request.model))
    out.write(
        f"the first request, {request.input_length} tokens in and {request.output_length} out, to {server.url}:\n\n"
    )
    if chosen.door.framing == "grpc":
        out.write(f"{path}: a message of {len(body)} bytes\n")
        return
    head = [f"POST {path} HTTP/1.1", f"host: {server.authority}", "content-type: application/json"]
    head += [f"{name}: (not shown)" for name, _ in server.headers]
    head += [f"content-length: {len(body)}", ""]
    text = body.decode("utf-8")
    more = f"… and {len(text) - SHOWN_BODY} characters more" if len(text) > SHOWN_BODY else ""
    out.write("\n".join([*head, text[:SHOWN_BODY] + more]) + "\n")
