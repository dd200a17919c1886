"""Servers before anything is timed: what URLs mean, the head that requests share, which models are asked."""

import dataclasses
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from backends import openai, vllm
from backends.base import Backend
from latency_profile import __version__
from latency_profile.errors import ServerUnavailable, UsageError
from latency_profile.sender.http2 import header_block
from latency_profile.server import Server, models_to_ask, server_at, server_version, servers_at
from latency_profile.settings import load
from tests.servers import odd
from tests.servers.odd import Call, Odd
from tests.servers.process import free_port

AGENT = f"latency-profile/{__version__}"


def at(url: str, *headers: tuple[str, str], **more: Any) -> Server:
    return server_at("", 0, url, headers, more.get("ca_file"), more.get("verify", True))


def answering(body: bytes = b"{}", status: str = "200 OK") -> Callable[[Call], None]:
    return lambda call: call.send(odd.plain(body, status=status))


@pytest.fixture
def server() -> Iterator[Odd]:
    with Odd(answering()) as server:
        yield server


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "prefix", "authority"),
    [
        ("http://gateway", "http", "gateway", 80, "", "gateway"),
        ("https://gateway/team/v1", "https", "gateway", 443, "/team/v1", "gateway"),
        ("https://gateway:8443", "https", "gateway", 8443, "", "gateway:8443"),
        ("https://gateway:80/", "https", "gateway", 80, "", "gateway:80"),
        ("grpc://10.0.0.7:9000", "grpc", "10.0.0.7", 9000, "", "10.0.0.7:9000"),
        ("grpcs://gateway", "grpcs", "gateway", 443, "", "gateway"),
        ("http://[::1]:8000", "http", "::1", 8000, "", "[::1]:8000"),
        ("http://[fe80::1%25eth0]:8000/a", "http", "fe80::1%eth0", 8000, "/a", "[fe80::1]:8000"),
        ("http://[fe80::1%eth0]", "http", "fe80::1%eth0", 80, "", "[fe80::1]"),
    ],
)
def test_a_url_taken_apart(url: str, scheme: str, host: str, port: int, prefix: str, authority: str) -> None:
    server = at(url)
    assert (server.scheme, server.host, server.port, server.prefix) == (scheme, host, port, prefix)
    assert server.authority == authority
    host = authority.replace("]", "%25eth0]") if "%" in server.host else authority
    assert server.url == f"{scheme}://{host}{prefix}"
    assert server.grpc is scheme.startswith("grpc")


def test_what_is_trusted_goes_with_https_and_grpcs() -> None:
    for scheme in ("https", "grpcs"):
        tls = at(f"{scheme}://[fe80::1%25eth0]", ca_file="ca.pem", verify=False).tls
        assert tls is not None
        assert (tls.server_name, tls.ca_file, tls.verify) == ("fe80::1", "ca.pem", False)
    assert at("http://a").tls is at("grpc://a").tls is None


def test_several_urls_in_their_order() -> None:
    argv = ["--tokenizer=t", "--use-dummy-text"]
    settings = load([*argv, "--url=http://b:1,https://a/p", "--url=http://c", "--insecure"], {})
    servers = servers_at(settings, [("x-a", "1")], None, grpc=False)
    assert [server.url for server in servers] == ["http://b:1", "https://a/p", "http://c"]
    assert all(server.headers == [("x-a", "1")] and not server.verify for server in servers)
    by_host = load([*argv, "--host=::1", "--port=9000"], {})
    assert [server.url for server in servers_at(by_host, [], None, grpc=False)] == ["http://[::1]:9000"]
    assert [server.url for server in servers_at(by_host, [], None, grpc=True)] == ["grpc://[::1]:9000"]


def test_the_head_of_a_request(server: Odd) -> None:
    target = at(f"http://127.0.0.1:{server.port}/team/v1", ("authorization", "Bearer x"), ("x-tenant", "blue")).target()
    assert target.head.decode() == (
        f"host: 127.0.0.1:{server.port}\r\n"
        f"user-agent: {AGENT}\r\n"
        "content-type: application/json\r\n"
        "accept: */*\r\n"
        "accept-encoding: identity\r\n"
        "authorization: Bearer x\r\n"
        "x-tenant: blue\r\n"
    )
    assert (target.address, target.family) == (("127.0.0.1", server.port), socket.AF_INET)
    assert (target.prefix, target.protocol, target.tls) == ("/team/v1", "http/1.1", None)


def test_a_header_of_the_user_s_takes_the_place_of_ours(server: Odd) -> None:
    """A gateway chooses the server by its Host; two of them would be a bad request."""
    target = at(f"http://127.0.0.1:{server.port}", ("Host", "models.example"), ("Accept-Encoding", "gzip")).target()
    lines = target.head.decode().lower().split("\r\n")
    assert lines.count("host: models.example") == 1 and lines.count("accept-encoding: gzip") == 1
    assert sum(line.startswith(("host:", "accept-encoding:")) for line in lines) == 2


@pytest.mark.parametrize(("scheme", "web"), [("grpc", "http"), ("grpcs", "https")])
def test_the_head_of_a_grpc_request(server: Odd, scheme: str, web: str) -> None:
    target = at(f"{scheme}://127.0.0.1:{server.port}/team", ("Authorization", "Bearer x")).target()
    assert target.head == header_block(
        [
            (":method", "POST"),
            (":scheme", web),
            (":authority", f"127.0.0.1:{server.port}"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", AGENT),
            ("authorization", "Bearer x"),
        ]
    )
    assert (target.protocol, target.prefix, target.tls is None) == ("grpc", "/team", scheme == "grpc")


def test_a_host_of_the_user_s_is_the_authority_of_grpc(server: Odd) -> None:
    head = at(f"grpc://127.0.0.1:{server.port}", ("Host", "models.example")).target().head
    assert b"models.example" in head and b"127.0.0.1" not in head and b"host" not in head


def test_the_scope_of_an_address_survives(monkeypatch: pytest.MonkeyPatch) -> None:
    with Odd(answering(), host="::1") as server:
        address = ("::1", server.port, 0, 1)
        asked = []

        def found(host: str, *_: Any, **__: Any) -> list[Any]:
            asked.append(host)
            return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", address)]

        monkeypatch.setattr(socket, "getaddrinfo", found)
        target = at(f"http://[fe80::1%25lo]:{server.port}").target()
    assert asked == ["fe80::1%lo"]
    assert (target.address, target.family) == (address, socket.AF_INET6)


def test_the_first_address_that_answers_is_taken(server: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    """localhost is ::1 first on many machines, and servers listen on 127.0.0.1 only."""
    addresses = [(socket.AF_INET6, ("::1", free_port(), 0, 0)), (socket.AF_INET, ("127.0.0.1", server.port))]
    found = [(family, socket.SOCK_STREAM, 6, "", address) for family, address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert at("http://localhost:1").target().address == ("127.0.0.1", server.port)


def test_why_no_connection_could_be_made() -> None:
    port = free_port()
    with pytest.raises(ServerUnavailable, match=f"^cannot connect to 127.0.0.1:{port}: Connection refused$"):
        at(f"http://127.0.0.1:{port}").target()
    with pytest.raises(ServerUnavailable, match=r"^cannot connect to no-such-host.invalid: host not found \("):
        at("http://no-such-host.invalid").target()


@pytest.mark.parametrize(
    ("prefix", "asked"),
    [("", "/v1/models"), ("/team", "/team/v1/models"), ("/team/v1", "/team/v1/models"), ("/v1", "/v1/models")],
)
def test_a_get_goes_where_requests_go(server: Odd, prefix: str, asked: str) -> None:
    headers = (("Authorization", "Bearer x"), ("X-A", "1"), ("X-A", "2"))
    assert at(f"http://127.0.0.1:{server.port}{prefix}", *headers).get("/v1/models") == b"{}"
    lines = server.calls[0].head.decode().split("\r\n")
    assert lines[0] == f"GET {asked} HTTP/1.1"
    assert lines[1:-2] == [
        f"host: 127.0.0.1:{server.port}",
        f"user-agent: {AGENT}",
        "accept: */*",
        "accept-encoding: identity",
        "Authorization: Bearer x",
        "X-A: 1",
        "X-A: 2",
    ]


@pytest.mark.parametrize(
    ("prefix", "served", "path", "asked"),
    [
        ("/team/v1", "/team/health", "/health", ["/team/v1/health", "/team/health"]),
        ("/v1", "/health", "/health", ["/v1/health", "/health"]),
        ("/v1", "/v1/health", "/health", ["/v1/health"]),
        ("/v1", "/v1/health", "/v1/health", ["/v1/health"]),
        ("/v1", "", "/v1/health", ["/v1/health"]),
        ("/team", "", "/health", ["/team/health"]),
        ("", "", "/health", ["/health"]),
    ],
)
def test_what_is_not_of_the_api_lies_beside_its_version(prefix: str, served: str, path: str, asked: list[str]) -> None:
    def answer(call: Call) -> None:
        found = call.head.split(b" ")[1].decode() == served
        call.send(odd.plain(b"{}", status="200 OK" if found else "404 Not Found"))

    with Odd(answer) as server:
        status, _ = at(f"http://127.0.0.1:{server.port}{prefix}").ask(path, 5.0)
        assert [call.head.split(b" ")[1].decode() for call in server.calls] == asked
    assert status == (200 if served else 404)


def refused(server: Odd, why: str) -> None:
    with server, pytest.raises(ServerUnavailable, match=f"^GET http://127.0.0.1:{server.port}/v1/models {why}$"):
        at(f"http://127.0.0.1:{server.port}/v1").get("/v1/models")


def test_why_a_get_was_not_answered() -> None:
    port = free_port()
    with pytest.raises(ServerUnavailable, match=f"^GET http://127.0.0.1:{port}/v1 failed: Connection refused$"):
        at(f"http://127.0.0.1:{port}").get("/v1")
    refused(Odd(answering(status="503 Service Unavailable")), "answered 503")
    refused(Odd(lambda call: call.send(b"220 hush.example ESMTP\r\n\r\n")), "failed: BadStatusLine")  # not what came
    refused(Odd(lambda call: call.hang_up()), "failed: Remote end closed connection without response")


def test_a_file_of_certificates_that_holds_none(server: Odd, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text("nothing")
    with pytest.raises(ServerUnavailable, match=r"failed: .*(certificate|CERTIFICATE|PEM)"):
        at(f"https://127.0.0.1:{server.port}", ca_file=str(ca_file)).get("/v1")


def test_a_get_through_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with Odd(answering(), tls=context) as server:
        url = f"https://127.0.0.1:{server.port}"
        assert at(url, ca_file=str(ca_file)).get("/") == b"{}"
        with pytest.raises(ServerUnavailable, match="SSLCertVerificationError: unable to get local issuer certificate"):
            at(url).get("/")


@pytest.mark.parametrize(
    ("body", "status", "version"),
    [
        (b'{"version": "0.32.0"}', "200 OK", "0.32.0"),
        (b'{"other": 1}', "200 OK", None),
        (b"<html>", "200 OK", None),
        (b'{"version": "0.32.0"}', "404 Not Found", None),
    ],
)
def test_the_version(body: bytes, status: str, version: str | None) -> None:
    with Odd(answering(body, status)) as server:
        assert server_version(at(f"http://127.0.0.1:{server.port}"), vllm.BACKEND) == version


def test_neither_grpc_servers_nor_silent_ones_are_asked_for_a_version(server: Odd) -> None:
    assert server_version(at(f"grpc://127.0.0.1:{server.port}"), vllm.BACKEND) is None
    assert server_version(at(f"http://127.0.0.1:{server.port}"), openai.BACKEND) is None
    assert server.accepted == 0


def listing(*models: str) -> bytes:
    return b'{"object":"list","data":[%s]}' % b",".join(b'{"id":"%s"}' % name.encode() for name in models)


BACKEND = vllm.BACKEND
DEFAULTING: Backend = dataclasses.replace(BACKEND, default_model="ensemble")


@pytest.mark.parametrize(
    ("backend", "body", "wanted", "asked"),
    [
        (BACKEND, listing("a"), (), ("a",)),
        (BACKEND, listing("a", "b"), ("b",), ("b",)),
        (BACKEND, listing(), ("a",), ("a",)),  # transformers serves what it does not list
        (BACKEND, b"<html>", ("a",), ("a",)),
        (DEFAULTING, listing(), (), ("ensemble",)),
        (DEFAULTING, listing("a"), (), ("a",)),
        (DEFAULTING, listing("a", "ensemble"), (), ("ensemble",)),
        (DEFAULTING, b"<html>", (), ("ensemble",)),
        (dataclasses.replace(DEFAULTING, models_path=None), b"", (), ("ensemble",)),
        (dataclasses.replace(BACKEND, models_path=None), b"", ("a",), ("a",)),
    ],
)
def test_the_models_that_are_asked(backend: Backend, body: bytes, wanted: Any, asked: Any) -> None:
    with Odd(answering(body)) as server:
        assert models_to_ask([at(f"http://127.0.0.1:{server.port}")], backend, wanted, backend.default_model) == asked


@pytest.mark.parametrize(
    ("backend", "body", "wanted", "line"),
    [
        (BACKEND, listing("a", "b"), (), "--models is needed: the server lists a, b"),
        (BACKEND, listing(), (), "--models is needed: the server lists none"),
        (DEFAULTING, listing("a", "b"), (), "--models is needed: the server lists a, b"),
        (BACKEND, listing("a", "b"), ("a", "c"), "--models got 'c', which the server does not serve; it lists a, b"),
        (DEFAULTING, listing("a"), ("ensemble",), "--models got 'ensemble', which the server does not serve; it"),
    ],
)
def test_models_that_cannot_be_asked(backend: Backend, body: bytes, wanted: Any, line: str) -> None:
    with Odd(answering(body)) as server, pytest.raises(UsageError) as refused:
        models_to_ask([at(f"http://127.0.0.1:{server.port}")], backend, wanted, backend.default_model)
    assert str(refused.value).startswith(line)


def test_a_list_that_cannot_be_had() -> None:
    """It is needed where no model is named."""
    with Odd(answering(b"no", "401 Unauthorized")) as odd_server:
        server = at(f"http://127.0.0.1:{odd_server.port}")
        assert models_to_ask([server], BACKEND, ("a",), BACKEND.default_model) == ("a",)
        assert models_to_ask([server], DEFAULTING, (), DEFAULTING.default_model) == ("ensemble",)
        with pytest.raises(ServerUnavailable, match="/v1/models answered 401"):
            models_to_ask([server], BACKEND, (), BACKEND.default_model)


def test_several_servers_must_serve_the_same() -> None:
    with Odd(answering(listing("a", "b"))) as one, Odd(answering(listing("b", "a"))) as two:
        servers = [at(f"http://127.0.0.1:{each.port}") for each in (one, two)]
        assert models_to_ask(servers, BACKEND, ("b",), BACKEND.default_model) == ("b",)
        with Odd(answering(listing("a"))) as third:
            other = at(f"http://127.0.0.1:{third.port}")
            for wanted in ((), ("a",)):
                with pytest.raises(UsageError) as refused:
                    models_to_ask([*servers, other], BACKEND, wanted, BACKEND.default_model)
                assert str(refused.value) == (
                    f"--url takes servers of the same models: {servers[0].url} lists a, b, and {other.url} lists a"
                )


def test_a_server_that_lists_nothing_differs_only_where_the_model_is_not_named() -> None:
    with Odd(answering(listing("a"))) as one, Odd(answering(listing())) as two:
        servers = [at(f"http://127.0.0.1:{each.port}") for each in (one, two)]
        assert models_to_ask(servers, BACKEND, ("a",), BACKEND.default_model) == ("a",)
        assert models_to_ask(servers[::-1], BACKEND, ("a",), BACKEND.default_model) == ("a",)
        with pytest.raises(UsageError, match="does not serve; it lists a"):
            models_to_ask(servers[::-1], BACKEND, ("b",), BACKEND.default_model)
        with pytest.raises(UsageError, match=f"{servers[0].url} lists a, and {servers[1].url} lists none"):
            models_to_ask(servers, BACKEND, (), BACKEND.default_model)


def test_grpc_servers_are_not_asked_for_models(server: Odd) -> None:
    grpc = at(f"grpc://127.0.0.1:{server.port}")
    assert models_to_ask([grpc], BACKEND, ("a",), BACKEND.default_model) == ("a",)
    assert models_to_ask([grpc], DEFAULTING, (), DEFAULTING.default_model) == ("ensemble",)
    with pytest.raises(UsageError, match="--models is needed: the server lists none"):
        models_to_ask([grpc], BACKEND, (), BACKEND.default_model)
    assert server.accepted == 0
