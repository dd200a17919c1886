"""Which protocol a target is spoken to in: what opens a connection to it, and what spells a request."""

from collections.abc import Callable

from latency_profile.sender import connection
from latency_profile.sender.connection import Connection, TlsConnection, tls_context
from latency_profile.sender.job import Point, Target


def connector(target: Target, point: Point) -> Callable[[], Connection]:
    """Opens a connection to the target, as the point wants it. Raises Lost."""
    new = _opener(target)

    def connect() -> Connection:
        opened = new()
        opened.most_answer_bytes = point.most_answer_bytes
        opened.tells_refusals = point.retries > 0
        return opened

    return connect


def _opener(target: Target) -> Callable[[], Connection]:
    tls = target.tls
    if target.protocol == "grpc":
        from latency_profile.sender import http2

        if tls is None:
            return lambda: http2.Http2Connection(target)
        http2_context = http2.http2_context(tls)
        return lambda: http2.Http2TlsConnection(target, http2_context, tls)
    if tls is None:
        return lambda: Connection(target)
    context = tls_context(tls)
    return lambda: TlsConnection(target, context, tls)


def speller(target: Target) -> Callable[[Target, str, str, bytes], bytes]:
    """(target, path with its prefix, request id, body) to the bytes of the request."""
    if target.protocol == "grpc":
        from latency_profile.sender import http2

        return http2.message
    return connection.message
