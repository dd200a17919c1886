"""gRPC's way to say "not now": a grpc-status without a message before it, a stream that was not looked at, or what a
proxy says in HTTP's words."""

from latency_profile.http2_answer import Code, Http2Answer, Reset
from latency_profile.sender.refusal import STATUSES, Refusal

_AS_HTTP: dict[int | None, int] = {Code.UNAVAILABLE: 503, Code.RESOURCE_EXHAUSTED: 429}  # as google.rpc.Code maps them


def read_refusal(frames: bytes) -> Refusal | None:
    """The refusal that an answer is, by its frames without DATA; None where it is none."""
    answer = Http2Answer()
    answer.feed([frames])
    if answer.reset == Reset.REFUSED_STREAM and not answer.status:
        return Refusal(503, None)  # nothing was done for it (RFC 9113, 8.7)
    status = _AS_HTTP.get(answer.grpc_status, answer.status)
    if status not in STATUSES:
        return None
    pushback = answer.trailers.get(b"grpc-retry-pushback-ms", b"")  # gRPC's retry design: the server's own wish
    if pushback.isdigit():
        return Refusal(status, -(-int(pushback[:12]) // 1000))
    after = answer.headers.get(b"retry-after", b"")
    return Refusal(status, int(after) if after.isdigit() and len(after) < 10 else None)
