"""How a request ended, and what is known of it. Light: the sender's processes import this and nothing heavier."""

import enum


class Status(enum.IntEnum):
    """How a request ended. OK is the only one that enters a latency statistic."""

    OK = 0
    CONNECT_REFUSED = 1  # no connection: refused, unreachable, no address
    CONNECT_TIMEOUT = 2
    TLS_FAILED = 3
    TIMEOUT = 4  # no head of an answer within --request-timeout
    STALLED = 5  # the answer began, and was not complete within --request-timeout
    RESET = 6  # the connection broke before or during the answer
    DISCONNECTED = 7  # the server closed the connection before any byte of the answer
    TRUNCATED = 8  # the answer ended before its end
    HTTP_REDIRECT = 9  # 3xx: not followed, it would hide what was measured
    HTTP_UNAUTHORIZED = 10  # 401, 403, 407
    HTTP_CLIENT_ERROR = 11  # other 4xx
    HTTP_TOO_MANY_REQUESTS = 12  # 429
    HTTP_SERVER_ERROR = 13  # other 5xx
    HTTP_UNAVAILABLE = 14  # 503
    HTTP_GATEWAY = 15  # 502, 504: somebody between here and the server
    NOT_HTTP = 16  # bytes that are no HTTP answer
    CONTENT_TYPE = 17  # a 200 of another kind than was asked for: a page, a stream in place of an object
    MALFORMED = 18  # a 200 with events that are not in the server's protocol
    NOT_UTF8 = 19  # a 200 with events that are no text
    TOO_LONG = 20  # an answer, or one event of it, longer than any real one
    ERROR_EVENT = 21  # the server said in a 200's stream that the request failed
    ERROR_BODY = 22  # the body of a 200 is an error
    EMPTY = 23  # a well-formed answer without a token
    CANCELLED = 24  # unfinished when the point was cut short
    NOT_SENT = 25  # due, but the point was cut short before it was sent
    UNKNOWN = 26


class TokenSource(enum.IntEnum):
    """Where `output_tokens` comes from, best first."""

    USAGE = 0  # the server's own count
    TOKEN_IDS = 1  # ids listed in the events
    TOKENIZER = 2  # the answer's text, tokenized after the run
    NONE = 3


class EventSource(enum.IntEnum):
    """Where the tokens of an answer's events come from, best first."""

    TOKEN_IDS = 0  # ids listed in the events
    USAGE = 1  # the growth of a usage that comes with every event
    TEXT = 2  # nobody told: one for each event with new text
    NONE = 3  # no events


class Flag(enum.IntFlag):
    """What happened to a request on its way."""

    KERNEL_STAMPS = 1  # receive times are the kernel's
    REUSED_CONNECTION = 2
    RESENT = 4  # found a dead pooled connection, sent again on a fresh one
    UNFINISHED_AT_STOP = 8
