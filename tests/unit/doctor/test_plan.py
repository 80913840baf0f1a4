from __future__ import annotations

from pathlib import Path

import pytest

from wsgi_proxy.doctor.plan import Asked, planned
from wsgi_proxy.errors import SettingsError


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds a wsgi-proxy.toml that it did not write."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "base_url", "also"),
    [
        ("http://h:8000/v1", "http://h:8000/v1", None),
        ("http://h:8000", "http://h:8000/v1", "http://h:8000"),
        ("h:8000/", "http://h:8000/v1", "http://h:8000"),
        ("https://h/openai/", "https://h/openai/v1", "https://h/openai"),
        ("https://h/openai/v1/responses", "https://h/openai/v1", None),
        ("https://h/responses", "https://h/responses/v1", "https://h"),
        ("wss://h/v1/responses", "https://h/v1", None),
        ("http:/[::1]:9/v1/", "http://[::1]:9/v1", None),
    ],
)
def test_url(text: str, base_url: str, also: str | None) -> None:
    """Whatever is given as a URL, one that ends in /v1 is tried, and what was given, too, if it does not."""
    [case], server = planned(Asked(url=text), {})

    assert (base_url, also) == (case.upstream.base_url, case.also)
    assert server is not None
    assert ("ws://127.0.0.1:8765/v1/responses", False) == (server.url, server.given)


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("0.0.0.0:80", "ws://127.0.0.1:80/v1/responses"),
        ("[::]:80", "ws://[::1]:80/v1/responses"),
        ("10.0.0.1:80", "ws://10.0.0.1:80/v1/responses"),
        ("127.0.0.1:0", None),
    ],
)
def test_server(bind: str, url: str | None) -> None:
    """The server is where the setting `bind` says, seen from this machine."""
    environ = {"WSGI_PROXY_UPSTREAM": "http://h/v1", "WSGI_PROXY_BIND": bind}
    _, server = planned(Asked(), environ)

    assert url == (server and server.url)


@pytest.mark.parametrize(
    "text", ["ws://h/v1/responses", "ws://h", "http://h/v1", "h/v1/responses", "ws://h/v1/responses/"]
)
def test_proxy(text: str) -> None:
    """An address of the server is understood in every form in which it stands somewhere."""
    _, server = planned(Asked(url="http://u/v1", proxy=text), {})

    assert server is not None
    assert ("ws://h/v1/responses", "http://h/v1", True) == (server.url, server.base_url, server.given)


def test_settings() -> None:
    """Every key of every upstream is examined; --key is that of a client, for upstreams that have none."""
    Path("wsgi-proxy.toml").write_text(
        '[[upstreams]]\nname = "a"\nbase_url = "http://a/v1"\napi_keys = ["k1", "k2"]\n'
        'models = [{ alias = "m" }]\n[[upstreams]]\nname = "b"\nbase_url = "http://b/v1"\n'
    )
    cases, _ = planned(Asked(key="mine"), {})
    named, _ = planned(Asked(model="alias"), {})

    assert [("a/1", "k1", 1, "m"), ("a/2", "k2", 2, "m"), ("b", "mine", None, None)] == [
        (case.name, case.key, case.number, case.model) for case in cases
    ]
    assert ["m", "m", "alias"] == [case.model for case in named]


@pytest.mark.parametrize(
    ("asked", "environ", "message"),
    [
        (Asked(), {}, "Give the URL of an upstream, such as http://127.0.0.1:8000/v1"),
        (Asked(url="http://h", config=Path("x")), {}, "not both"),
        (Asked(url="http://me:secret@h"), {}, "there is a user or a password in it"),
        (Asked(url="http://h:x"), {}, "is no address"),
        (Asked(url="http://h", key="a b"), {}, r"upstream_api_key \(option --key\): the value is not accepted"),
        (
            Asked(key="k"),
            {"WSGI_PROXY_UPSTREAM": "http://h/v1", "WSGI_PROXY_UPSTREAM_API_KEY": "x"},
            "--key is of no use",
        ),
    ],
)
def test_not_accepted(asked: Asked, environ: dict[str, str], message: str) -> None:
    """What is not acceptable is said in a sentence, without the secrets in it."""
    with pytest.raises(SettingsError, match=message) as caught:
        planned(asked, environ)
    assert "secret" not in str(caught.value)
