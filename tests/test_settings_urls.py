"""URLs: what several of them may be, and which go with which doors of a backend that speaks gRPC at some."""

from typing import ClassVar

import pytest

import backends
from backends.base import Backend, Door, Framing, Traits
from latency_profile.errors import UsageError
from latency_profile.settings import load

ENOUGH = ["--tokenizer=t", "--use-dummy-text"]


class WebDoor(Door):
    path: ClassVar[str] = "/v1/generate"
    traits: ClassVar[Traits] = Traits()


class GrpcDoor(Door):
    path: ClassVar[str] = "/service/Decode"
    stream_framing: ClassVar[Framing] = "grpc"
    traits: ClassVar[Traits] = Traits()


def refusal(*argv: str) -> str:
    with pytest.raises(UsageError) as refused:
        load([*ENOUGH, *argv], {})
    return str(refused.value)


@pytest.mark.parametrize("got", ["http://a,b:80", "http://a,,http://b", "http://a,http://a/", "http://a,HTTP://a"])
def test_what_several_urls_may_not_be(got: str) -> None:
    line = refusal(f"--url={got}")
    assert line.startswith(f"--url: got '{got}'") and line.endswith("or different ones separated by commas")
    assert ("(the same twice)" in line) is (got.lower().count("http://a") == 2)


def test_what_several_urls_ask_of_other_settings() -> None:
    urls = "--url=http://a,http://b"
    line = "got 1, takes 2 or more, one for each URL"
    assert refusal(urls, "--tcp-conn-limit=1") == f"--tcp-conn-limit: {line}"
    assert refusal(urls, "--num-prompts=1") == f"--num-prompts: {line}"
    assert load([*ENOUGH, urls, "--tcp-conn-limit=0", "--num-prompts=2"], {}).num_prompts == 2


def test_urls_of_both_kinds() -> None:
    assert refusal("--url=http://a,grpcs://b") == (
        "--url: got http://a,grpcs://b, takes URLs of http and https, or of grpc and grpcs, not both kinds"
    )


def test_a_backend_without_grpc() -> None:
    line = "--url: got grpc://a, takes http or https with --backend vllm, which speaks no gRPC"
    assert refusal("--url=grpc://a") == line


@pytest.fixture
def _both(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend(name="jetstream", title="both", doors={"generate": WebDoor, "decode": GrpcDoor})
    monkeypatch.setattr(backends, "load", lambda _: backend)


@pytest.mark.usefixtures("_both")
@pytest.mark.parametrize("scheme", ["http", "https", "grpc", "grpcs"])
def test_the_default_endpoint_goes_with_each(scheme: str) -> None:
    """It is the first door of the kind that the URL says."""
    assert load([*ENOUGH, f"--url={scheme}://a"], {}).url == (f"{scheme}://a",)


@pytest.mark.usefixtures("_both")
@pytest.mark.parametrize(
    ("scheme", "endpoint"),
    [
        ("http", "/v1/generate"),
        ("https", "generate=/other"),
        ("grpc", "decode"),
        ("grpcs", "decode=/other"),
        ("grpc", "/service/Decode"),
        ("grpc", "service/Decode"),
    ],
)
def test_an_endpoint_with_its_kind_of_url(scheme: str, endpoint: str) -> None:
    assert load([*ENOUGH, f"--url={scheme}://a", f"--endpoint={endpoint}"], {}).endpoint == endpoint


@pytest.mark.usefixtures("_both")
@pytest.mark.parametrize(
    ("scheme", "endpoint", "takes"),
    [
        ("grpc", "/v1/generate", "http or https"),
        ("grpcs", "generate=/other", "http or https"),
        ("http", "decode", "grpc or grpcs"),
        ("http", "decode=/other", "grpc or grpcs"),
        ("https", "/service/Decode", "grpc or grpcs"),
    ],
)
def test_an_endpoint_with_the_other_kind(scheme: str, endpoint: str, takes: str) -> None:
    line = f"--url: got {scheme}://a, takes {takes} with --endpoint {endpoint}"
    assert refusal(f"--url={scheme}://a", f"--endpoint={endpoint}") == line


@pytest.mark.usefixtures("_both")
def test_trust_goes_with_grpcs_only() -> None:
    assert load([*ENOUGH, "--url=grpcs://a,grpc://b", "--insecure"], {}).insecure
    line = "--insecure: got True, takes effect only with a --url of https or grpcs"
    assert refusal("--url=grpc://a", "--insecure") == line
