"""How a request ended, and what is known of it. Light: the sender's processes import this and nothing heavier."""

import enum


class Status(enum.IntEnum):
    """How a request ended. OK is the only one that enters a latency statistic."""

    OK = 0
    CONNECT_REFUSED = 1  # no connection: refused, unreachable, no address
    CONNECT_TIMEOUT = 2
    TLS_FAILED = 3
    TIMEOUT = 4  # no complete answer within --request-timeout
    RESET = 5  # the connection broke before or during the answer
    DISCONNECTED = 6  # the server closed the connection before any byte of the answer
    TRUNCATED = 7  # the answer ended before its end
    HTTP_REDIRECT = 8
    HTTP_CLIENT_ERROR = 9  # 4xx other than 429
    HTTP_TOO_MANY_REQUESTS = 10
    HTTP_SERVER_ERROR = 11  # 5xx
    NOT_HTTP = 12  # bytes that are no HTTP answer
    CONTENT_TYPE = 13  # a 200 that is not in the server's protocol
    ERROR_EVENT = 14  # the server said in a 200 that the request failed
    EMPTY = 15  # a well-formed answer without a token
    CANCELLED = 16  # unfinished when the point was cut short
    NOT_SENT = 17  # due, but the point was cut short before it was sent
    UNKNOWN = 18


class TokenSource(enum.IntEnum):
    """Where `output_tokens` comes from, best first."""

    USAGE = 0  # the server's own count
    TOKEN_IDS = 1  # ids listed in the events
    TOKENIZER = 2  # the answer's text, tokenized after the run
    NONE = 3


class Flag(enum.IntFlag):
    """What happened to a request on its way."""

    KERNEL_STAMPS = 1  # receive times are the kernel's
    REUSED_CONNECTION = 2
    RESENT = 4  # found a dead pooled connection, sent again on a fresh one
    UNFINISHED_AT_STOP = 8
