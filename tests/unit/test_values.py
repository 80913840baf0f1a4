"""How the values of settings are read and shown."""

from __future__ import annotations

import base64
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wsgi_proxy.settings.models import MODELS, PATTERNS, Models
from wsgi_proxy.settings.networks import EVERY_NETWORK, LOOPBACK, NETWORKS
from wsgi_proxy.settings.table import UPSTREAM_NAME
from wsgi_proxy.settings.values import (
    AGE,
    BASE_URL,
    BIND,
    CERTIFICATES,
    DIGEST,
    DIGEST_OF_NOTHING,
    DURATION,
    FILE,
    FLAG,
    FRAMING,
    HEADERS,
    KEY,
    KEYS,
    NAME,
    NAMED_KEYS,
    ORIGINS,
    PROXY_URL,
    SIZE,
    TABLE,
    Hint,
    Kind,
    choice,
    masked,
    parse_bool,
    quoted,
    whole,
)

ACCEPTED = [
    (SIZE, 1, 1),
    (SIZE, "1", 1),
    (SIZE, "512B", 512),
    (SIZE, "64MiB", 64 * 2**20),
    (SIZE, " 64 mib ", 64 * 2**20),
    (SIZE, "1.5KiB", 1536),
    (SIZE, "10MB", 10_000_000),
    (SIZE, 2**63 - 1, 2**63 - 1),
    (DURATION, 90, 90.0),
    (DURATION, 0.25, 0.25),
    (DURATION, "250ms", 0.25),
    (DURATION, "90s", 90.0),
    (DURATION, "10min", 600.0),
    (DURATION, "1ms", 0.001),
    (DURATION, "24h", 86400.0),
    (AGE, "7d", 604800.0),
    (AGE, "1.5d", 129600.0),
    (AGE, "1ms", 0.001),
    (AGE, "3650d", 315360000.0),
    (AGE, 0, 0.0),
    (whole(0, 5), 0, 0),
    (whole(0, 5), " 5 ", 5),
    (choice("auto", "v1"), "V1", "v1"),
    (BIND, "127.0.0.1:8765", "127.0.0.1:8765"),
    (BIND, "localhost:0", "localhost:0"),
    (BIND, "[::1]:65535", "[::1]:65535"),
    (BIND, "0.0.0.0:080", "0.0.0.0:80"),
    (BASE_URL, "http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
    (BASE_URL, "https://api.example.com/v1/", "https://api.example.com/v1"),
    (BASE_URL, "https://host/v1/tenant/openai/v1", "https://host/v1/tenant/openai/v1"),
    (BASE_URL, "http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    (PROXY_URL, "http://user:secret@proxy:3128/", "http://user:secret@proxy:3128"),
    (KEY, " sk-123\n", "sk-123"),
    (PROXY_URL, "http://u~-.s_e%72:p:a!$&'()*+,;=s%2Fs@proxy:1", "http://u~-.s_e%72:p:a!$&'()*+,;=s%2Fs@proxy:1"),
    (PROXY_URL, "https://token:@proxy", "https://token:@proxy"),
    (UPSTREAM_NAME, " a name ", "a name"),
    (FLAG, True, True),
    (FLAG, "false", False),
    (TABLE, {"a": 1}, {"a": 1}),
    (KEYS, ["a", " b "], ("a", "b")),
    (NAME, " alice@example.com ", "alice@example.com"),
    (NAME, "0_.-" + "x" * 60, "0_.-" + "x" * 60),
    (NAMED_KEYS, "alice:k1 , bob:k:2", (("alice", "k1"), ("bob", "k:2"))),
    (NAMED_KEYS, ["alice:k1"], (("alice", "k1"),)),
    (DIGEST, "AB" * 32, "ab" * 32),
    (HEADERS, {"X-Team": " search "}, {"x-team": "search"}),
    (HEADERS, {"x-empty": "", "x-latin": "\xe9"}, {"x-empty": "", "x-latin": "\xe9"}),
    (HEADERS, {}, {}),
    (ORIGINS, "https://APP.example, http://other.example:8080", ("https://app.example", "http://other.example:8080")),
    (ORIGINS, "https://app.example/", ("https://app.example",)),
    (NETWORKS, "127.0.0.1, ::1", LOOPBACK),
    (NETWORKS, ["10.0.0.0/8"], (ip_network("10.0.0.0/8"),)),
    (NETWORKS, "*", EVERY_NETWORK),
    (ORIGINS, ["null", "app://client", "http://[::1]:1"], ("null", "app://client", "http://[::1]:1")),
    (FILE, "/etc/proxy.keys", Path("/etc/proxy.keys")),
    (FILE, "~/proxy.keys", Path.home() / "proxy.keys"),
    (MODELS, "*", Models()),
    (MODELS, "qwen3-*, gpt-5 = qwen3-32b", Models(("qwen3-*",), (("gpt-5", "qwen3-32b"),))),
    (MODELS, ["org/m:free@1.5", {"a": "b", "c": "d"}], Models(("org/m:free@1.5",), (("a", "b"), ("c", "d")))),
    (MODELS, {"a": "b"}, Models((), (("a", "b"),))),
    (PATTERNS, ["qwen3-?b"], Models(("qwen3-?b",))),
]

REFUSED = [
    *[(SIZE, value) for value in (0, -1, 1.5, 2**63, True, "", "MiB", "64M", "1e3", "-1", None, [], "9" * 400)],
    *[(SIZE, value) for value in (float("nan"), float("inf"), "1.0001KiB")],
    *[(DURATION, value) for value in (0, "0", 0.0009, 86400.5, "25h", "1d", -1, float("nan"), float("inf"), True, "s")],
    (DURATION, 10**400),
    *[(AGE, value) for value in ("0.0009s", "3651d", 315360001, "1w", "d", -1, float("nan"), float("inf"), 10**400)],
    *[(whole(0, 5), value) for value in (-1, 6, 1.0, "1.0", True, "five", "5 turns", "", None)],
    *[(choice("auto", "v1"), value) for value in ("v3", "", 1, None)],
    *[(BIND, value) for value in ("8765", ":8765", "host:", "host:x", "host:65536", "::1:80", "[::g]:80", 8765)],
    *[(BIND, value) for value in ("ho st:80", "unix:/run/socket", "[127.0.0.1]:80")],
    *[
        (PROXY_URL, value)
        for value in ("proxy:3128", "socks5://proxy:1", "http://", "http://proxy:1/path", "http://p:x")
    ],
    *[(KEY, value) for value in ("", " ", "two words", "line\nbreak", "schlüssel", 123, None)],
    *[(PROXY_URL, f"http://{user}@proxy:1") for user in ("", ":secret", "me", "me:s/e", "me:s?e", "me:s#e", "me:s e")],
    *[(UPSTREAM_NAME, value) for value in ("", "  ", "bell\a", "a/1", "/", 1)],
    *[(FLAG, value) for value in ("yes", 1, None, "")],
    *[(TABLE, value) for value in ("a", [], None)],
    *[(KEYS, value) for value in ("a", "a, b", [], [""], ["a b"], [1], {"a": "b"}, None)],
    *[(NAME, value) for value in ("", "-a", ".a", "a b", "a:b", "a,b", "a/b", "\xe9", "x" * 65, 1, None)],
    *[
        (NAMED_KEYS, value)
        for value in ("", "key", "alice:", ":key", "alice:a b", "a:b,", "a:b,,c:d", [], [1], {"a": "b"})
    ],
    *[(DIGEST, value) for value in ("", "ab", "ab" * 31, "ab" * 33, "xy" * 32, 1, None)],
    *[(HEADERS, value) for value in ("x: y", [], None)],
    *[(NETWORKS, value) for value in ("", "10.0.0.1/8", "localhost", "*, ::1", "10.0.0", "10.0.0.1:80", [], [1], None)],
    *[(ORIGINS, value) for value in ("", "*", "https://*.example", "app.example", "https://", [], [1], {}, None)],
    *[
        (ORIGINS, value)
        for value in ("https://me@app.example", "https://a b", "https://a:x", "https://a:0", "file:///")
    ],
    *[(FILE, value) for value in ("", " ", "a\0b", 1, None)],
    *[
        (MODELS, value)
        for value in ("", ",", [], {}, [{}], "a b", "a=", "=a", "a=b=c", "(a|b)", "a$", "^a", [1], 1, None)
    ],
    *[(MODELS, value) for value in ({"a": ""}, {"a": 1}, {"a": ["b"]}, ["a,b"], [["a"]])],
    (PATTERNS, ["(a|b)"]),
]

MEANT = [
    ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
    ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1"),
    ("127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
    ("localhost", "http://localhost/v1"),
    ("http://host/v1/responses", "http://host/v1"),
    ("http://host/openai/v1/chat/completions", "http://host/openai/v1"),
    ("ws://host/v1/responses", "http://host/v1"),
    ("wss://host/v1", "https://host/v1"),
    ("HTTP://host/v1", "http://host/v1"),
    ("http://host/v1?version=2", "http://host/v1"),
    ("http://host/v1#top", "http://host/v1"),
    ("http://user:secret@host/v1", "http://host/v1"),
    ("user:secret@host/v1", "http://host/v1"),
    ("http:/user:secret@host", "http://host/v1"),
    ("HTTPS:/host", "https://host/v1"),
]


@pytest.mark.parametrize(("kind", "value", "expected"), ACCEPTED)
def test_accepted(kind: Kind, value: object, expected: Any) -> None:
    """A value is read from text and from TOML values, and has one type."""
    actual = kind.read(value)

    assert expected == actual
    assert type(expected) is type(actual)


@pytest.mark.parametrize(("kind", "value"), REFUSED)
def test_refused(kind: Kind, value: object) -> None:
    """Everything else is a ValueError, whatever its type, and never another exception."""
    with pytest.raises(ValueError):
        kind.read(value)


@pytest.mark.parametrize(("value", "meant"), MEANT)
def test_base_url_that_was_meant(value: str, meant: str) -> None:
    """A URL that is nearly right is answered with the right one."""
    with pytest.raises(Hint) as caught:
        BASE_URL.read(value)

    assert f"did you mean {meant}?" == str(caught.value)


HINTS = [
    (MODELS, "gpt-.*", "it is no regular expression, did you mean gpt-*?"),
    (MODELS, ["a", "gpt-.*-mini.*"], "it is no regular expression, did you mean gpt-*-mini*?"),
    (MODELS, {"gpt-*": "qwen"}, "an alias stands for one model, and has no * or ? in it"),
    (MODELS, "gpt-5=qwen-?", "an alias stands for one model, and has no * or ? in it"),
    (MODELS, [{"a": "b"}, {"a": "c"}], "the alias a is there twice"),
    (MODELS, "a=b,a=b", "the alias a is there twice"),
    (PATTERNS, ["*", {"a": "b"}], "an alias belongs to the models of an upstream"),
    (KEYS, ["one", "two", "one"], "one of them is there twice"),
    (NAMED_KEYS, "alice:a,alice:b", "one of the names is there twice"),
    (DIGEST, DIGEST_OF_NOTHING, "this one is of an empty text"),
    (ORIGINS, "https://app.example/chat", "did you mean https://app.example?"),
    (ORIGINS, "https://app.example:443", "did you mean https://app.example?"),
    (ORIGINS, ["http://app.example:80/index.html?a#b"], "did you mean http://app.example?"),
    (FILE, "~nobody-of-this-name/keys", "there is no such home directory"),
    (UPSTREAM_NAME, "a/1", "the keys of an upstream are named NAME/1, NAME/2"),
    (PROXY_URL, "http://me@proxy:1", "a user needs a password, as in USER:PASSWORD@"),
    *[
        (
            PROXY_URL,
            f"http://{user}@proxy:1",
            "in USER and PASSWORD write other characters than A-Z a-z 0-9 - . _ ~ ! $ & ' ( ) * + , ; = as %XX",
        )
        for user in ("me:5%secret", "me:s@ecret", 'me:s"ecret', "me:s^ecret", "me:s\xe9cret", "m%e:secret", ":secret")
    ],
    (HEADERS, {"x team": "a"}, "'x team' is no name of a header"),
    (HEADERS, {"": "a"}, "'' is no name of a header"),
    (HEADERS, {"x\u00e9": "a"}, "'x\u00e9' is no name of a header"),
    (HEADERS, {"Host": "a"}, "Host is set by the proxy itself"),
    (HEADERS, {"Sec-WebSocket-Key": "a"}, "Sec-WebSocket-Key is set by the proxy itself"),
    *[(HEADERS, {name: "a"}, f"{name} is set by the proxy itself") for name in sorted(FRAMING)],
    *[
        (HEADERS, headers, "the value of x is no text that a header can carry, or is there twice")
        for headers in ({"x": "a\r\nb: c"}, {"x": "a\0"}, {"x": "\u20ac"}, {"x": 1}, {"x": ["a"]}, {"X": "a", "x": "b"})
    ],
]


@pytest.mark.parametrize(("kind", "value", "hint"), HINTS)
def test_hint(kind: Kind, value: object, hint: str) -> None:
    """A value whose fault can be told is answered with it; what may be secret is not quoted."""
    with pytest.raises(Hint) as caught:
        kind.read(value)

    assert hint == str(caught.value).replace("the value of X", "the value of x")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "/v1",
        "ftp://host/v1",
        "http:///v1",
        "http://host:port/v1",
        "http://h:0/v1",
        1,
        "http://user:12/secret@host/v1",
        "http://user:12?secret@host/v1",
        "http://user:12#secret@host/v1",
    ],
)
def test_base_url_without_hint(value: object) -> None:
    """A value that is nothing like a URL of an upstream gets no guess."""
    with pytest.raises(ValueError) as caught:
        BASE_URL.read(value)

    assert not isinstance(caught.value, Hint)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[(text, True) for text in ("1", "t", "T", "TRUE", "true", "True")],
        *[(text, False) for text in ("0", "f", "F", "FALSE", "false", "False")],
        *[(text, None) for text in ("", "tRUE", "yes", "on", "2", " true", "10")],
    ],
)
def test_parse_bool(text: str, expected: bool | None) -> None:
    """The twelve words of Go's strconv.ParseBool are booleans, and no others."""
    assert expected is parse_bool(text)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (SIZE, 64 * 2**20, "64MiB"),
        (SIZE, 3 * 2**30, "3GiB"),
        (SIZE, 1000, "1000B"),
        (DURATION, 600.0, "10min"),
        (DURATION, 7200.0, "2h"),
        (DURATION, 5400.0, "90min"),
        (DURATION, 90.0, "90s"),
        (DURATION, 0.001, "0.001s"),
        (DURATION, 86400.0, "24h"),
        (AGE, 604800.0, "7d"),
        (AGE, 90000.0, "25h"),
        (AGE, 0.0, "0s"),
        (DURATION, 0.25, "0.25s"),
        (whole(1), 3, "3"),
        (PROXY_URL, "http://user:secret@proxy:3128", "http://***@proxy:3128"),
        (ORIGINS, ("https://a.example", "null"), "https://a.example, null"),
        (NETWORKS, LOOPBACK, "127.0.0.1, ::1"),
        (NETWORKS, (ip_network("10.0.0.0/8"), ip_network("fe80::/10")), "10.0.0.0/8, fe80::/10"),
        (NETWORKS, EVERY_NETWORK, "*"),
        (MODELS, Models(("qwen3-*",), (("gpt-5", "qwen3-32b"),)), "qwen3-*, gpt-5=qwen3-32b"),
        (FLAG, True, "true"),
    ],
)
def test_show(kind: Kind, value: Any, expected: str) -> None:
    """A value is shown as text that can be given again, except for what is secret in it."""
    assert expected == kind.show(value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host/v1", "http://host/v1"),
        ("http://user:p@ss/word@host/v1", "http://***@host/v1"),
        ("http://host/v1?key=secret", "http://host/v1?***"),
        ("user:secret@host/v1", "***@host/v1"),
        ("user:secret@host:80", "***@host:80"),
        ("http:/user:secret@host", "http:/***@host"),
        ("http:user:secret@host", "***@host"),
        ("//user:secret@host", "//***@host"),
        ("http://user:se\ncret?@host?a\nb", "http://***@host?***"),
    ],
)
def test_masked(url: str, expected: str) -> None:
    """A URL is shown without user, password and query."""
    assert expected == masked(url)


# The shortest that OpenSSL would have to look into: a SEQUENCE with a number in it.
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n"


def certificate(der: bytes) -> str:
    return CERTIFICATE.replace("MAMCAQE=", base64.encodebytes(der).decode())


@pytest.mark.parametrize(
    "text",
    [
        CERTIFICATE,
        f"# the first\n{CERTIFICATE}\nthe second\n{CERTIFICATE}",
        "\xe9\n" + CERTIFICATE,
        "\ufeff" + CERTIFICATE,
        CERTIFICATE.replace("\n", " \r\n"),
        certificate(b"\x30\x81\x80" + bytes(128)),
        certificate(b"\x30\x82\x01\x00" + bytes(256)),
    ],
)
def test_certificates(tmp_path: Path, text: str) -> None:
    """A file is accepted that holds a certificate, whatever stands around it."""
    file = tmp_path / "ca.pem"
    file.write_text(text, "utf-8")

    assert file == CERTIFICATES.read(str(file))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "certificate",
        CERTIFICATE.replace("CERTIFICATE", "PRIVATE KEY"),
        "CA: " + CERTIFICATE,
    ],
)
def test_no_certificates(tmp_path: Path, text: str) -> None:
    """A file without a certificate is refused, not found out at the first request."""
    file = tmp_path / "ca.pem"
    file.write_text(text)

    with pytest.raises(Hint, match=r"^it holds no certificate$"):
        CERTIFICATES.read(str(file))


@pytest.mark.parametrize(
    "text",
    [
        CERTIFICATE[:40],
        CERTIFICATE.replace("M", "*"),
        CERTIFICATE.replace("M", "\xe9"),
        CERTIFICATE.replace("=", ""),
        CERTIFICATE.replace("-----END", " -----END"),
        CERTIFICATE + CERTIFICATE[:40],
        CERTIFICATE[:40] + "\n" + CERTIFICATE,
        certificate(b""),
        certificate(b"\x30"),
        certificate(b"hello"),
        certificate(b"\x30\x03\x02\x01"),
        certificate(b"\x30\x81\x80" + bytes(127)),
        certificate(b"\x30\x82\x01\x00" + bytes(255)),
        certificate(b"\x30\x82\x01"),
    ],
)
def test_certificates_that_are_not_whole(tmp_path: Path, text: str) -> None:
    """A certificate that is cut off or is none is refused, wherever it stands in the file."""
    file = tmp_path / "ca.pem"
    file.write_text(text, "utf-8")

    with pytest.raises(Hint, match=r"^a certificate in it is not whole$"):
        CERTIFICATES.read(str(file))


def test_settings_do_not_import_ssl() -> None:
    """The library gevent has to patch it first."""
    program = "import sys, wsgi_proxy.settings; sys.exit('ssl' in sys.modules)"

    assert 0 == subprocess.run([sys.executable, "-c", program]).returncode


@pytest.mark.parametrize(("name", "reason"), [("missing.pem", "No such file or directory"), (".", "Is a directory")])
def test_unreadable_certificates(tmp_path: Path, name: str, reason: str) -> None:
    """A file that cannot be read is refused with the reason."""
    with pytest.raises(Hint, match=f"^it cannot be read: {reason}$"):
        CERTIFICATES.read(str(tmp_path / name))


MODEL_NAMES: list[tuple[str, str, str | None]] = [
    ("*", "any", "any"),
    ("*", "", ""),
    ("*", "two\nlines", "two\nlines"),
    ("qwen3-*", "qwen3-32b", "qwen3-32b"),
    ("qwen3-*", "qwen3-", "qwen3-"),
    ("qwen3-*", "qwen3", None),
    ("qwen3-*", "my-qwen3-32b", None),
    ("qwen3-*", "Qwen3-32b", None),
    ("qwen?", "qwen3", "qwen3"),
    ("qwen?", "qwen", None),
    ("qwen?", "qwen32", None),
    ("gpt-4.1", "gpt-4.1", "gpt-4.1"),
    ("gpt-4.1", "gpt-4x1", None),
    ("a+b", "a+b", "a+b"),
    ("a+b", "aab", None),
    ("a*,*b", "b", "b"),
    ("a*,*b", "c", None),
    ("gpt-5=qwen3-32b", "gpt-5", "qwen3-32b"),
    ("gpt-5=qwen3-32b", "qwen3-32b", None),
    ("*,gpt-5=qwen3-32b", "gpt-5", "qwen3-32b"),
    ("a=b,b=c", "a", "b"),
]


@pytest.mark.parametrize(("text", "model", "target"), MODEL_NAMES)
def test_model_names(text: str, model: str, target: str | None) -> None:
    """A pattern stands for whole names, an alias for one model, and an alias is not looked up again."""
    models = MODELS.read(text)

    assert target == models.target(model)
    assert (target is not None) is (model in models)


def matches(pattern: str, name: str) -> bool:
    """Tell what `Models` should: keep all places of the name at which the rest of the pattern may begin."""
    places = {0}
    for char in pattern:
        if char == "*":
            places = {place for place in range(len(name) + 1) if places and place >= min(places)}
        else:
            places = {
                place + 1 for place in places if name[place : place + 1] == char or (char == "?" and name[place:])
            }
    return len(name) in places


@settings(max_examples=500, derandomize=True, database=None, deadline=None)
@given(st.text("ab*?.!-+", min_size=1, max_size=10), st.text("ab.!-+\n", max_size=16))
@example("*a*b*c*d", "abc" * 85 + "d")
@example("*a*b*c*d", "abcd" * 64)
@example("*a*b*c*d", "abc" * 85)
def test_patterns_match_as_they_say(pattern: str, name: str) -> None:
    """Only * and ? are special, for any name and any number of them."""
    assert matches(pattern, name) is (name in Models((pattern,)))


def test_a_pattern_is_not_tried_again_and_again() -> None:
    """A long name that nearly matches a pattern with many * costs no time that anybody would notice."""
    program = "from wsgi_proxy.settings import Models; print('abc' * 85 in Models(('*a*b*c' * 8 + '*d',)))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert "False\n" == done.stdout


def test_models_that_are_known() -> None:
    """Aliases and patterns without * and ? are names that can be listed."""
    assert ["gpt-5", "a", "b"] == MODELS.read("a, b, c-*, d?, gpt-5=e").names


def test_quoted_list_hides_passwords() -> None:
    """A URL is shown without its password, also if it stands where a list does not belong, or beside another."""
    assert "['http://***@proxy:1']" == quoted(["http://me:secret@proxy:1"])
    assert "{'a': ['***@proxy:1', 'http://***@b', 2]}" == quoted({"a": ["me:secret@proxy:1", "http://c:secret@b", 2]})
    assert "{'***@proxy': True}" == quoted({"me:secret@proxy": True})


def test_quoted() -> None:
    """A refused value is quoted, on one line and at most 120 characters long."""
    assert "'a\\nb'" == quoted("a\nb")
    assert "[1, 2]" == quoted([1, 2])
    assert 120 == len(quoted("x" * 118))
    assert quoted("x" * 119).endswith("x...")
    assert 120 == len(quoted("x" * 119))
