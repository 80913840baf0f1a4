"""Where settings come from, and what is said about those that are not accepted."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from wsgi_proxy.errors import SettingsError
from wsgi_proxy.settings import (
    KEY_SETTINGS,
    NO_UPSTREAM,
    SETTINGS,
    UPSTREAM_SETTINGS,
    Given,
    KeySettings,
    Models,
    Setting,
    Settings,
    UpstreamSettings,
    described,
    keys_file_setting,
    load,
    parse_websockets,
    settings_table_markdown,
)

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n"
DIGEST = hashlib.sha256(b"my-secret").hexdigest()
URL = "http://127.0.0.1:8000/v1"
GIVE = "give an http or https URL that ends in /v1, without user, query or fragment"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds a wsgi-proxy.toml that it did not write."""
    monkeypatch.chdir(tmp_path)


def read(text: str, environ: dict[str, str] | None = None, **options: object) -> Settings:
    """Load the settings from a file with this text."""
    file = Path("test.toml")
    file.write_text(text, "utf-8")
    return load(file, environ or {}, options)


def refusal(text: str, environ: dict[str, str] | None = None, **options: object) -> str:
    """Return the error that a file with this text is answered with."""
    with pytest.raises(SettingsError) as caught:
        read(text, environ, **options)
    return str(caught.value)


def test_table_and_dataclass_agree() -> None:
    """Every row of the table is an attribute of Settings, in the same order, with the same default."""
    others = ("upstreams", "keys", "warnings", "sources")
    attributes = [field for field in dataclasses.fields(Settings) if field.name not in others]
    rows = [
        (setting.name, None if setting.default is None else setting.read(Given(setting.default, "default")))
        for setting in SETTINGS
    ]

    assert [(field.name, field.default) for field in attributes] == rows


def test_upstream_table_and_dataclass_agree() -> None:
    """Every key of an [[upstreams]] table is an attribute of UpstreamSettings, except for one key and the metadata."""
    attributes = [field.name for field in dataclasses.fields(UpstreamSettings)]
    names = [setting.name for setting in UPSTREAM_SETTINGS]

    assert attributes == [name for name in names if name not in ("api_key", "metadata")]


def test_key_table_and_dataclass_agree() -> None:
    """Every key of a [[keys]] table is an attribute of KeySettings, except for the key itself."""
    attributes = [field.name for field in dataclasses.fields(KeySettings)]

    assert attributes == [setting.name for setting in KEY_SETTINGS if setting.name != "key"]


@pytest.mark.parametrize("setting", [*UPSTREAM_SETTINGS, *KEY_SETTINGS], ids=lambda setting: setting.name)
def test_defaults_of_tables(setting: Setting) -> None:
    """What the tables say is the default of an upstream or a key is that of the record."""
    if setting.default is not None:
        record = UpstreamSettings("a", URL) if setting in UPSTREAM_SETTINGS else KeySettings("a", DIGEST)

        assert setting.default == setting.show(getattr(record, setting.name))


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_default_is_shown_as_written(setting: Setting) -> None:
    """What is shown of a default is the text in the table, so that it can be copied."""
    value = getattr(Settings(), setting.name)

    assert (setting.default or "not set") == setting.show(value)


def test_nothing_given() -> None:
    """Without file, environment and options everything is the default, and there is no upstream."""
    settings = load(None, {}, {})

    assert Settings() == settings
    assert {"default"} == set(settings.sources.values())
    assert ((), (), ()) == (settings.upstreams, settings.keys, settings.warnings)
    assert settings.needs_key is False


def test_precedence() -> None:
    """The command line beats the environment, which beats the file, which beats the default."""
    text = "workers = 2\nnamed_lanes = 2\nwaiting_turns = 2"
    environ = {"WSGI_PROXY_NAMED_LANES": "3", "WSGI_PROXY_WAITING_TURNS": "3"}

    settings = read(text, environ, waiting_turns="4")

    assert (2, 3, 4, 16) == (
        settings.workers,
        settings.named_lanes,
        settings.waiting_turns,
        settings.turns_in_flight,
    )
    assert "file test.toml" == settings.sources["workers"]
    assert "environment WSGI_PROXY_NAMED_LANES" == settings.sources["named_lanes"]
    assert "option --waiting-turns" == settings.sources["waiting_turns"]
    assert "default" == settings.sources["turns_in_flight"]


def test_not_given() -> None:
    """An empty variable and an option that is None count as not given."""
    settings = load(None, {"WSGI_PROXY_WORKERS": "", "WSGI_PROXY_CONFIG": ""}, {"workers": None})

    assert "default" == settings.sources["workers"]


def test_which_file() -> None:
    """--config beats WSGI_PROXY_CONFIG, which beats wsgi-proxy.toml in the current directory."""
    for workers, name in enumerate(("wsgi-proxy.toml", "environment.toml", "option.toml"), 1):
        Path(name).write_text(f"workers = {workers}")
    environ = {"WSGI_PROXY_CONFIG": "environment.toml"}

    assert 1 == load(None, {}, {}).workers
    assert 2 == load(None, environ, {}).workers
    assert 3 == load(Path("option.toml"), environ, {}).workers


@pytest.mark.parametrize("environ", [{}, {"WSGI_PROXY_CONFIG": "missing.toml"}])
def test_missing_file(environ: dict[str, str]) -> None:
    """A file that was named must exist."""
    with pytest.raises(SettingsError, match=r"missing\.toml cannot be read: No such file"):
        load(None if environ else Path("missing.toml"), environ, {})


@pytest.mark.parametrize("content", [b"workers = ", b"workers = 1\nworkers = 2", b'name = "\xff"', b"\xef\xbb\xbf= 1"])
def test_file_that_is_not_toml(content: bytes) -> None:
    """A file that is not TOML is named, with the reason."""
    Path("wsgi-proxy.toml").write_bytes(content)

    with pytest.raises(SettingsError, match=r"^The settings file wsgi-proxy\.toml is not valid TOML: .+\.$"):
        load(None, {}, {})


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 5000, "a = " + "{a=" * 2000, "a" + ".a" * 5000 + " = 1", f"a = {'[' * 51}{']' * 51}"]
)
def test_file_that_is_nested_too_deeply(text: str) -> None:
    """A file with tables or arrays too deep for what reads them is refused in a sentence."""
    message = "The settings file test.toml has tables or arrays that are nested more than 50 deep."
    assert message == refusal(text)


def test_file_that_is_nested_as_deeply_as_it_may_be() -> None:
    """The limit itself is accepted: an array, its table and the metadata in it, and 47 more."""
    assert "a" == read(table(metadata=f"{{ a = {'[' * 47}{']' * 47} }}")).upstreams[0].name


def test_upstream_is_short_for_one_table() -> None:
    """`upstream` gives the upstream named default, with the key and the HTTP proxy."""
    environ = {"WSGI_PROXY_UPSTREAM_API_KEY": "key", "WSGI_PROXY_PROXY_URL": "http://proxy:3128"}

    settings = load(None, environ, {"upstream": URL})

    assert (UpstreamSettings("default", URL, ("key",), proxy_url="http://proxy:3128"),) == settings.upstreams
    assert settings.upstreams is settings.require_upstreams()


def test_upstreams_table() -> None:
    """An [[upstreams]] table gives all that is known about an upstream."""
    Path("ca.pem").write_text(CERTIFICATE)
    text = f"""
        proxy_url = "http://general:1"
        gap_timeout = "1min"
        [[upstreams]]
        name = "mine"
        base_url = "{URL}/"
        api_keys = ["key", "${{KEY}}"]
        priority = -1
        weight = "3"
        models = ["qwen3-*", {{ "gpt-5" = "qwen3-32b" }}]
        headers = {{ "X-Team" = "${{TEAM}}" }}
        proxy_url = "http://special:2"
        websockets = "f"
        incremental_input = true
        connect_timeout = "250ms"
        first_event_timeout = 7
        gap_timeout = "1h"
        ca_file = "ca.pem"
        verify = false
    """
    expected = UpstreamSettings(
        "mine",
        URL,
        ("key", "other"),
        priority=-1,
        weight=3,
        models=Models(("qwen3-*",), (("gpt-5", "qwen3-32b"),)),
        headers={"x-team": "search"},
        proxy_url="http://special:2",
        websockets=False,
        incremental_input=True,
        connect_timeout=0.25,
        first_event_timeout=7.0,
        gap_timeout=3600.0,
        ca_file=Path("ca.pem"),
        verify=False,
    )

    assert (expected,) == read(text, {"KEY": "other", "TEAM": "search"}).upstreams


def test_upstreams_inherit() -> None:
    """An [[upstreams]] table takes the HTTP proxy and the timeouts that it does not give from the settings."""
    text = f"""
        proxy_url = "http://general:1"
        connect_timeout = 1
        first_event_timeout = 2
        [[upstreams]]
        name = "a"
        base_url = "{URL}"
        [[upstreams]]
        name = "b"
        base_url = "{URL}"
        proxy_url = "http://special:2"
        first_event_timeout = 4
    """

    first, second = read(text, {"WSGI_PROXY_GAP_TIMEOUT": "3"}, connect_timeout="5").upstreams

    assert UpstreamSettings("a", URL, (), 0, 1, Models(), {}, "http://general:1", None, None, 5.0, 2.0, 3.0) == first
    assert UpstreamSettings("b", URL, (), 0, 1, Models(), {}, "http://special:2", None, None, 5.0, 4.0, 3.0) == second


def test_single_upstream_inherits() -> None:
    """An upstream that is given shortly has the timeouts of the settings, too."""
    [upstream] = read(f'upstream = "{URL}"\nconnect_timeout = 1\nfirst_event_timeout = 2\ngap_timeout = 3').upstreams

    assert (1.0, 2.0, 3.0) == (upstream.connect_timeout, upstream.first_event_timeout, upstream.gap_timeout)


def test_no_upstream() -> None:
    """Where an upstream is needed, the error says the ways to give one."""
    with pytest.raises(SettingsError) as caught:
        Settings().require_upstreams()

    assert NO_UPSTREAM == str(caught.value)
    for way in ("--upstream", "WSGI_PROXY_UPSTREAM", "[[upstreams]]"):
        assert way in NO_UPSTREAM


def test_several_upstreams() -> None:
    """Several upstreams keep the order of the file."""
    text = "".join(f'[[upstreams]]\nname = "{name}"\nbase_url = "{URL}"\n' for name in ("red", "blue", "green"))

    assert ["red", "blue", "green"] == [upstream.name for upstream in read(text).require_upstreams()]


def test_upstream_replaces_upstreams_of_the_file() -> None:
    """An upstream of the environment or the command line is used instead of the file's tables."""
    text = f'[[upstreams]]\nname = "a"\nbase_url = "{URL}"\napi_key = "of the file"'

    settings = read(text.replace(" of the file", "-file"), {}, upstream="http://other/v1")

    assert (UpstreamSettings("default", "http://other/v1"),) == settings.upstreams
    assert "default" == settings.sources["upstreams"]


@pytest.mark.parametrize(
    ("environ", "keys"), [({}, ()), ({"WSGI_PROXY_UPSTREAM_API_KEY": "key-environment"}, ("key-environment",))]
)
def test_key_stays_with_its_upstream(environ: dict[str, str], keys: tuple[str, ...]) -> None:
    """The key that the file gives with its upstream never goes to an upstream that was given elsewhere."""
    text = f'upstream = "{URL}"\nupstream_api_key = "key-file"'

    assert ("key-file",) == read(text).upstreams[0].api_keys
    assert keys == read(text, environ, upstream="http://other/v1").upstreams[0].api_keys


@pytest.mark.parametrize(("name", "other"), [("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")])
def test_a_certificate_and_its_key(name: str, other: str) -> None:
    """One is of no use without the other."""
    assert f"{name} (file test.toml) is given without {other}, give both or neither." == refusal(f'{name} = "a.pem"')
    settings = read('tls_certificate = "a.pem"\ntls_key = "a.key"')
    assert (Path("a.pem"), Path("a.key")) == (settings.tls_certificate, settings.tls_key)


def test_both_forms_in_one_file() -> None:
    """A file that gives an upstream in both forms is refused."""
    text = f'upstream = "{URL}"\nupstreams = []'

    assert "give either upstream with upstream_api_key or [[upstreams]], not both" in refusal(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"${KEY}"', "secret"),
        ('"a-${KEY}-${KEY}"', "a-secret-secret"),
        ('"$${KEY}"', "${KEY}"),
        ('"$$$$"', "$$"),
        ('"$KEY"', "$KEY"),
        ('"a$"', "a$"),
    ],
)
def test_substitution(text: str, expected: str) -> None:
    """${VAR} is replaced from the environment, at every depth, and $$ is a dollar sign."""
    upstreams = f'[[upstreams]]\nname = "a"\nbase_url = "{URL}"\napi_key = {text}'

    assert (expected,) == read(upstreams, {"KEY": "secret"}).upstreams[0].api_keys


def test_substituted_text_is_not_substituted_again() -> None:
    """A value that comes from the environment is taken as it is."""
    text = f'upstream = "{URL}"\nupstream_api_key = "${{KEY}}"'

    assert ("${OTHER}$$",) == read(text, {"KEY": "${OTHER}$$"}).upstreams[0].api_keys


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('bind = "${HOST}:1"', "bind (file test.toml) uses ${HOST}, which is not set in the environment."),
        (
            '[[upstreams]]\napi_key = "${MY_KEY}"',
            "upstreams[0].api_key (file test.toml) uses ${MY_KEY}, which is not set in the environment.",
        ),
        ('bind = "${"', "bind (file test.toml) holds '${' without a name and '}'; write $$ for a literal $."),
        ('bind = "${A-B}"', "bind (file test.toml) holds '${' without a name and '}'; write $$ for a literal $."),
    ],
)
def test_substitution_errors(text: str, message: str) -> None:
    """A variable that is not set, or not closed, is an error that names the variable and the key."""
    assert message == refusal(text)


ERRORS: list[tuple[str, dict[str, str], dict[str, object], str]] = [
    ("workers = 0", {}, {}, "workers (file test.toml): 0 is not accepted, give a whole number from 1 to 1024."),
    (
        "",
        {"WSGI_PROXY_BIND": "8765"},
        {},
        (
            "bind (environment WSGI_PROXY_BIND): '8765' is not accepted, give HOST:PORT such as 127.0.0.1:8765 or "
            "[::1]:8765; port 0 lets the system choose."
        ),
    ),
    (
        "",
        {},
        {"upstream": "http://me:secret@host?key=secret"},
        f"upstream (option --upstream): 'http://***@host?***' is not accepted, {GIVE}; did you mean http://host/v1?",
    ),
    ("worker = 1", {}, {}, "file test.toml: 'worker' is not a setting, did you mean workers?"),
    (
        "max-event-bytes = 1",
        {},
        {},
        "file test.toml: 'max-event-bytes' is not a setting, did you mean max_event_bytes?",
    ),
    ("colour = 1", {}, {}, "file test.toml: 'colour' is not a setting."),
    (
        "",
        {"WSGI_PROXY_UPSTREAM_KEY": "secret"},
        {},
        "environment: WSGI_PROXY_UPSTREAM_KEY is not a setting, did you mean WSGI_PROXY_UPSTREAM_API_KEY?",
    ),
    ("", {}, {"worker": 1}, "options: 'worker' is not a setting, did you mean workers?"),
    ("upstreams = 1", {}, {}, "upstreams (file test.toml) is not accepted, give [[upstreams]] tables."),
    ("upstreams = [1]", {}, {}, "upstreams (file test.toml) is not accepted, give [[upstreams]] tables."),
    ("[[upstreams]]", {}, {}, "file test.toml, upstreams[0]: name is missing."),
    ('[[upstreams]]\nname = "a"', {}, {}, "file test.toml, upstreams[0]: base_url is missing."),
    (
        '[[upstreams]]\nbase-url = "http://host/v1"',
        {},
        {},
        "file test.toml, upstreams[0]: 'base-url' is not a setting, did you mean base_url?",
    ),
    (
        '[[upstreams]]\nname = "a"\nbase_url = "http://host"',
        {},
        {},
        f"base_url (file test.toml, upstreams[0]): 'http://host' is not accepted, {GIVE}; did you mean http://host/v1?",
    ),
    ("keys = 1", {}, {}, "keys (file test.toml) is not accepted, give [[keys]] tables."),
    ("[[keys]]", {}, {}, "file test.toml, keys[0]: name is missing."),
    (
        '[[keys]]\nname = "a b"',
        {},
        {},
        (
            "name (file test.toml, keys[0]): 'a b' is not accepted, give 1 to 64 characters from "
            "A-Z a-z 0-9 _ . @ -, a letter or digit first."
        ),
    ),
    (
        '[[keys]]\nname = "a"\nmodel = "*"',
        {},
        {},
        "file test.toml, keys[0]: 'model' is not a setting, did you mean models?",
    ),
    (
        '[[keys]]\nname = "a"\nkey = "k"\nmodels = { "gpt-5" = "qwen" }',
        {},
        {},
        (
            "models (file test.toml, keys[0]): {'gpt-5': 'qwen'} is not accepted, give patterns such as "
            '"qwen3-*", in a list; an alias belongs to the models of an upstream.'
        ),
    ),
    (
        '[[keys]]\nname = "a"\nkey = "k"\nsockets = -1',
        {},
        {},
        "sockets (file test.toml, keys[0]): -1 is not accepted, give a whole number from 0 to 1000000.",
    ),
    (
        '[[keys]]\nname = "a"',
        {},
        {},
        "file test.toml, keys[0]: give key or sha256; no key named a is in keys_file or client_keys.",
    ),
    *[
        (
            f'[[keys]]\nname = "a"\n{given}',
            {"WSGI_PROXY_CLIENT_KEYS": "a:my-secret"} if "sha256" not in given or "key =" not in given else {},
            {},
            "file test.toml, keys[0]: give one of key, sha256, or a line in keys_file or client_keys, not several.",
        )
        for given in (f'key = "k"\nsha256 = "{DIGEST}"', 'key = "k"', f'sha256 = "{DIGEST}"')
    ],
    (
        '[[keys]]\nname = "a"\nkey = "k"\n[[keys]]\nname = "b"\nkey = "l"\n[[keys]]\nname = " a"\nkey = "m"',
        {},
        {},
        "file test.toml, keys[2]: the name 'a' is that of file test.toml, keys[0] already.",
    ),
    (
        f'[[keys]]\nname = "a"\nkey = "my-secret"\n[[keys]]\nname = "b"\nsha256 = "{DIGEST}"',
        {},
        {},
        "The client keys a and b are one and the same, give each its own.",
    ),
    (
        f'[[keys]]\nname = "a"\nsha256 = "{hashlib.sha256().hexdigest()}"',
        {},
        {},
        (
            "sha256 (file test.toml, keys[0]): the value is not accepted, give a SHA-256 digest, 64 hexadecimal "
            "digits; this one is of an empty text."
        ),
    ),
    (
        "",
        {"WSGI_PROXY_CLIENT_KEYS": "my-secret"},
        {},
        (
            "client_keys (environment WSGI_PROXY_CLIENT_KEYS): the value is not accepted, give NAME:KEY, several with "
            "commas between them."
        ),
    ),
    (
        "",
        {"WSGI_PROXY_KEYS_FILE": "gone.keys"},
        {},
        "The keys file gone.keys does not exist; `wsgi-proxy keys add NAME --file gone.keys` makes it.",
    ),
    ("", {"WSGI_PROXY_KEYS_FILE": "."}, {}, "The keys file . cannot be read: Is a directory."),
]


def table(**given: str) -> str:
    """Return an [[upstreams]] table with these values, as TOML, beside a name and a URL."""
    values = {"name": '"a"', "base_url": f'"{URL}"', **given}
    return "[[upstreams]]\n" + "".join(f"{name} = {value}\n" for name, value in values.items())


UPSTREAM_ERRORS: list[tuple[dict[str, str], str]] = [
    (
        {"api_key": '"my-secret"', "api_keys": '["my-secret"]'},
        "file test.toml, upstreams[0]: give either api_key or api_keys, not both.",
    ),
    *[
        (
            {key: value, "headers": '{ "Authorization" = "Basic my-secret" }'},
            "file test.toml, upstreams[0]: give either authorization in headers or a key, not both; it beats the key.",
        )
        for key, value in (("api_key", '"my-secret"'), ("api_keys", '["my-secret"]'))
    ],
    (
        {"name": '"a/1"'},
        (
            "name (file test.toml, upstreams[0]): 'a/1' is not accepted, give a text that is not blank and has no / "
            "in it; the keys of an upstream are named NAME/1, NAME/2."
        ),
    ),
    (
        {"api_keys": '["my-secret", "my-secret"]'},
        (
            "api_keys (file test.toml, upstreams[0]): the value is not accepted, give a list of different keys of "
            "printable ASCII characters without blanks; one of them is there twice."
        ),
    ),
    (
        {"api_keys": '"my-secret"'},
        (
            "api_keys (file test.toml, upstreams[0]): the value is not accepted, give a list of different keys of "
            "printable ASCII characters without blanks."
        ),
    ),
    (
        {"models": '"gpt-.*"'},
        (
            "models (file test.toml, upstreams[0]): 'gpt-.*' is not accepted, give patterns such as \"qwen3-*\", and "
            'tables of aliases such as { "gpt-5" = "qwen3-32b" }, in a list; it is no regular expression, '
            "did you mean gpt-*?"
        ),
    ),
    (
        {"ca_file": '"gone.pem"'},
        (
            "ca_file (file test.toml, upstreams[0]): 'gone.pem' is not accepted, give the path of a file with "
            "certificates in PEM form; it cannot be read: No such file or directory."
        ),
    ),
    (
        {"ca_file": '"test.toml"'},
        (
            "ca_file (file test.toml, upstreams[0]): 'test.toml' is not accepted, give the path of a file with "
            "certificates in PEM form; it holds no certificate."
        ),
    ),
    *[
        (
            {"headers": f'{{ "{name}" = "{value}" }}'},
            (
                "headers (file test.toml, upstreams[0]): the value is not accepted, give a table such as "
                f'{{ "x-team" = "search" }}; {reason}.'
            ),
        )
        for name, value, reason in (
            ("x team", "my-secret", "'x team' is no name of a header"),
            ("Host", "my-secret", "Host is set by the proxy itself"),
            ("x-a", "my-secret\\r\\nx: y", "the value of x-a is no text that a header can carry, or is there twice"),
        )
    ],
    (
        {"base_url": '"http://me:my-secret@host/v1"'},
        (
            f"base_url (file test.toml, upstreams[0]): 'http://***@host/v1' is not accepted, {GIVE}; "
            "did you mean http://host/v1?"
        ),
    ),
    (
        {"base_url": '"ftp://host/v1"'},
        f"base_url (file test.toml, upstreams[0]): 'ftp://host/v1' is not accepted, {GIVE}.",
    ),
    (
        {"proxy_url": '["http://me:my-secret@host:1"]'},
        (
            "proxy_url (file test.toml, upstreams[0]): ['http://***@host:1'] is not accepted, give "
            "http://[USER:PASSWORD@]HOST:PORT or https://...."
        ),
    ),
    (
        {"weight": "0"},
        "weight (file test.toml, upstreams[0]): 0 is not accepted, give a whole number from 1 to 1000.",
    ),
    ({"verify": '"no"'}, "verify (file test.toml, upstreams[0]): 'no' is not accepted, give true or false."),
    ({"api-keys": "[]"}, "file test.toml, upstreams[0]: 'api-keys' is not a setting, did you mean api_keys?"),
    ({"workers": "2"}, "file test.toml, upstreams[0]: 'workers' is not a setting."),
]


@pytest.mark.parametrize(("given", "message"), UPSTREAM_ERRORS)
def test_upstream_errors(given: dict[str, str], message: str) -> None:
    """What is wrong with an [[upstreams]] table names the file, the table, the key, and what is accepted."""
    assert message == refusal(table(**given))


def test_upstreams_of_one_name() -> None:
    """Two upstreams of one name could not be told apart in logs, and the second is refused."""
    message = "file test.toml, upstreams[1]: the name 'a' is that of file test.toml, upstreams[0] already."

    assert message == refusal(table() + table())
    assert message == refusal(table() + table(name='"a "'))
    assert message == refusal(table() + table() + table(name='"b"'))


def key(name: str, text: str, *rest: Any) -> KeySettings:
    return KeySettings(name, hashlib.sha256(text.encode()).hexdigest(), *rest)


def test_keys_of_all_sources() -> None:
    """Client keys come from the keys file, the environment and [[keys]] tables; these also limit the others."""
    Path("my.keys").write_text(f"# ours\n\nfiled:{DIGEST}\n other : {DIGEST[::-1].upper()}\n")
    text = f"""
        keys_file = "my.keys"
        key_sockets = 1
        key_turns_in_flight = 2
        [[keys]]
        name = "own"
        key = "${{OWN}}"
        models = ["qwen3-*"]
        sockets = 0
        turns_in_flight = 5
        turns_per_minute = 6
        [[keys]]
        name = "filed"
        models = "gpt-*"
        [[keys]]
        name = "env"
        turns_per_minute = 9
        [[keys]]
        name = "hash"
        sha256 = "{"AB" * 32}"
    """
    environ = {"OWN": "k1", "WSGI_PROXY_CLIENT_KEYS": "env:k2, env2:k3", "WSGI_PROXY_KEY_TURNS_PER_MINUTE": "3"}

    expected = (
        key("filed", "my-secret", Models(("gpt-*",)), 1, 2, 3),
        KeySettings("other", DIGEST[::-1], Models(), 1, 2, 3),
        key("env", "k2", Models(), 1, 2, 9),
        key("env2", "k3", Models(), 1, 2, 3),
        key("own", "k1", Models(("qwen3-*",)), 0, 5, 6),
        KeySettings("hash", "ab" * 32, Models(), 1, 2, 3),
    )
    assert expected == read(text, environ).keys


def test_key_of_file_and_environment() -> None:
    """A name that is in the keys file cannot be in client_keys, too."""
    Path("my.keys").write_text(f"alice:{DIGEST}")
    environ = {"WSGI_PROXY_KEYS_FILE": "my.keys", "WSGI_PROXY_CLIENT_KEYS": "alice:k"}

    message = "client_keys (environment WSGI_PROXY_CLIENT_KEYS): the name alice is in my.keys already."
    assert message == refusal("", environ)


@pytest.mark.parametrize(
    "line",
    [
        "my-secret",
        "alice:my-secret",
        "alice:",
        f":{DIGEST}",
        f"my secret:{DIGEST}",
        f"alice:{DIGEST}:my-secret",
        f"alice:{DIGEST[:-1]}",
        f"alice:{hashlib.sha256().hexdigest()}",
    ],
)
def test_broken_line_of_the_keys_file(line: str) -> None:
    """A line that is not NAME:DIGEST is found by file and number, and not shown, because it may be a key."""
    Path("my.keys").write_text(f"bob:{'ab' * 32}\n\n{line}\n")

    message = "file my.keys, line 3: a line is NAME:DIGEST, as `wsgi-proxy keys add NAME` writes it."
    assert message == refusal('keys_file = "my.keys"')


def test_name_twice_in_the_keys_file() -> None:
    """Two keys of one name in the keys file are refused."""
    Path("my.keys").write_text(f"alice:{DIGEST}\nalice:{DIGEST[::-1]}\n")

    assert "file my.keys, line 2: the name alice is there already." == refusal('keys_file = "my.keys"')


def test_keys_file_that_is_not_text() -> None:
    """A keys file that is not UTF-8 is refused."""
    Path("my.keys").write_bytes(b"\xff\xfe")

    assert "The keys file my.keys cannot be read: not UTF-8." == refusal('keys_file = "my.keys"')


@pytest.mark.parametrize("text", ["", "\n# nobody\n"])
def test_keys_file_without_keys(text: str) -> None:
    """Where the last key was removed a key is needed still, with a warning that nobody has one."""
    file = Path("my.keys")
    file.touch(0o600)
    file.write_text(text)

    settings = read('keys_file = "my.keys"')
    with_another = read('keys_file = "my.keys"', {"WSGI_PROXY_CLIENT_KEYS": "a:k"})

    assert ((), True) == (settings.keys, settings.needs_key)
    settings.require_keys_for("0.0.0.0:8765")
    hint = "make one with: wsgi-proxy keys add NAME --file my.keys"
    assert (f"the keys file my.keys holds no key, so nobody can connect; {hint}",) == settings.warnings
    assert ((key("a", "k"),), ()) == (with_another.keys, with_another.warnings)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o602, 0o644, 0o666])
def test_warning_about_an_open_keys_file(mode: int) -> None:
    """A keys file that others can open is used, with a warning that says how to close it."""
    file = Path("my.keys")
    file.write_text(f"alice:{DIGEST}")
    file.chmod(mode)

    warning = "other users can open the keys file my.keys; close it with: chmod 600 my.keys"
    assert (warning,) == read('keys_file = "my.keys"').warnings
    file.chmod(0o600)
    assert () == read('keys_file = "my.keys"').warnings


def test_warning_about_an_unchecked_upstream() -> None:
    """An upstream whose certificate is not checked is used, with a warning that names it."""
    [warning] = read(table(verify="false") + table(name='"b"')).warnings

    assert warning.startswith("upstream a: its certificate is not checked (verify = false)")


ADDRESSES = [
    ("127.0.0.1:8765", True),
    ("127.0.0.1", True),
    ("127.255.0.9:1", True),
    ("localhost:8765", True),
    ("LOCALHOST.:8765", True),
    ("api.localhost:8765", True),
    ("[::1]:8765", True),
    ("[::1]", True),
    ("::1", True),
    ("[::ffff:127.0.0.1]:8765", True),
    ("unix:/run/proxy.sock", True),
    ("unix:proxy.sock", True),
    ("/run/proxy.sock", True),
    ("tcp://127.0.0.1:8765", True),
    ("tcp://0.0.0.0:8765", False),
    ("fd://3", False),
    ("0.0.0.0:8765", False),
    ("[::]:8765", False),
    ("[::ffff:0.0.0.0]:8765", False),
    ("192.168.1.5:8765", False),
    ("10.0.0.1", False),
    ("[2001:db8::1]:8765", False),
    ("[fe80::1%eth0]:8765", False),
    ("proxy.example:8765", False),
    ("localhost.example:8765", False),
    ("127.0.0.1.example:8765", False),
    ("notlocalhost:8765", False),
    ("127.1:8765", False),
    ("*:8765", False),
    (":8765", False),
    ("8765", False),
    ("", False),
]


@pytest.mark.parametrize(("bind", "local"), ADDRESSES)
def test_keys_are_required(bind: str, local: bool) -> None:
    """Without client keys only loopback and Unix sockets are served, unless something else checks who calls."""
    read(table(), {"WSGI_PROXY_CLIENT_KEYS": "a:k"}).require_keys_for(bind)
    Settings(allow_without_keys=True).require_keys_for(bind)
    if local:
        Settings().require_keys_for(bind)
    else:
        with pytest.raises(SettingsError) as caught:
            Settings().require_keys_for(bind)
        assert str(caught.value).startswith(f"{bind} can be reached from other machines, and no client keys are set")
        for way in ("wsgi-proxy keys add NAME", "keys_file", "127.0.0.1", "allow_without_keys = true"):
            assert way in str(caught.value)


def test_keys_file_setting() -> None:
    """The name of the keys file is read alone: neither the file nor the rest of the settings needs to be there."""
    Path("wsgi-proxy.toml").write_text('keys_file = "${HERE}/my.keys"\nupstream_api_key = "${KEY}"\nworkers = 0')
    Path("empty.toml").write_text("")

    assert Path("/x/my.keys") == keys_file_setting(None, {"HERE": "/x"})
    assert Path("e.keys") == keys_file_setting(None, {"WSGI_PROXY_KEYS_FILE": "e.keys", "WSGI_PROXY_WORKERS": "0"})
    assert keys_file_setting(Path("empty.toml"), {}) is None
    assert keys_file_setting(None, {"WSGI_PROXY_CONFIG": "empty.toml"}) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keys_file = 1", "keys_file (file wsgi-proxy.toml): 1 is not accepted, give the path of a file."),
        ('keys_file = "${X}"', "keys_file (file wsgi-proxy.toml) uses ${X}, which is not set in the environment."),
        ("keys_file", "The settings file wsgi-proxy.toml is not valid TOML: "),
    ],
)
def test_keys_file_setting_that_is_not_accepted(text: str, message: str) -> None:
    """A name of a keys file that is not accepted is refused as `load` refuses it."""
    Path("wsgi-proxy.toml").write_text(text)

    with pytest.raises(SettingsError) as caught:
        keys_file_setting(None, {})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("text", "environ", "options", "message"), ERRORS)
def test_errors(text: str, environ: dict[str, str], options: dict[str, object], message: str) -> None:
    """An error names the setting, where it was given, the value, and what is accepted or meant."""
    assert message == refusal(text, environ, **options)


@pytest.mark.parametrize(
    "text",
    [
        'upstream_api_key = "my secret"',
        f'[[upstreams]]\nname = "a"\nbase_url = "{URL}"\napi_key = "my secret"',
        'proxy_url = "socks://my:secret@host:1"',
        'proxy_url = ["http://my:secret@host:1"]',
        'proxy_url = "my:secret@host:1"',
        'proxy_url = "http:/my:secret@host:1"',
        'proxy_url = "http://my-secret@host:1"',
        'upstream = "my:secret@host/v1"',
        'upstream = "http:/my:secret@host"',
        'upstream = "http://my:1/secret@host"',
        'client_keys = "alice: my secret"',
        'client_keys = { alice = "secret" }',
        '[[keys]]\nname = "a"\nkey = "my secret"',
        '[[keys]]\nname = "a"\nsha256 = "secret"',
        f'[[upstreams]]\nname = "a"\nbase_url = "{URL}"\napi_keys = ["my secret"]',
        f'[[upstreams]]\nname = "a"\nbase_url = "{URL}"\nheaders = ["x: secret"]',
    ],
)
def test_errors_do_not_show_secrets(text: str) -> None:
    """A secret that is not accepted is not in the error."""
    assert "secret" not in refusal(text)


def test_variables_of_others() -> None:
    """Variables that resemble no setting are not ours; Kubernetes sets some for a service named wsgi-proxy."""
    environ = {
        "WSGI_PROXY_PORT": "tcp://10.0.0.1:8765",
        "WSGI_PROXY_PORT_8765_TCP_ADDR": "10.0.0.1",
        "WSGI_PROXY_SERVICE_HOST": "10.0.0.1",
        "WSGI_PROXY_SERVICE_PORT": "8765",
    }

    assert Settings() == load(None, environ, {})


WEBSOCKETS: list[tuple[object, dict[str, Any], bool | None]] = [
    (None, {}, None),
    (True, {}, True),
    (False, {}, False),
    *[(text, {}, True) for text in ("1", "t", "T", "TRUE", "true", "True", " true\n")],
    *[(text, {}, False) for text in ("0", "f", "F", "FALSE", "false", "False", "\tfalse ")],
    *[(text, {}, None) for text in ("yes", "tRUE", "", "  ", "2")],
    # The attribute beats the metadata ...
    ("false", {"websockets": True}, False),
    ("true", {"websockets": "false"}, True),
    (False, {"websockets": True}, False),
    # ... unless it is blank or does not parse.
    ("", {"websockets": True}, True),
    ("  ", {"websockets": "t"}, True),
    ("maybe", {"websockets": True}, True),
    ("maybe", {"websockets": False}, False),
    (1, {"websockets": False}, False),
    # Metadata: booleans and text that parses.
    (None, {"websockets": True}, True),
    (None, {"websockets": " 1 "}, True),
    (None, {"websockets": "F"}, False),
    *[(None, {"websockets": value}, None) for value in (1, 0, 1.0, [True], {"websockets": True}, None, "", "on")],
    (None, {"Websockets": True}, None),
    (1, {}, None),
]


@pytest.mark.parametrize(("attribute", "metadata", "expected"), WEBSOCKETS)
def test_parse_websockets(attribute: object, metadata: dict[str, Any], expected: bool | None) -> None:
    """The attribute is read as the reference reads it, then the metadata; where both say nothing it is unknown."""
    assert expected is parse_websockets(attribute, metadata)


def test_websockets_of_metadata() -> None:
    """[upstreams.metadata] may hold anything; its websockets counts."""
    text = f"""
        [[upstreams]]
        name = "a"
        base_url = "{URL}"
        websockets = "maybe"
        [upstreams.metadata]
        websockets = "true"
        owner = "me"
    """

    assert read(text).upstreams[0].websockets is True


@pytest.mark.parametrize("websockets", [None, False, True])
@pytest.mark.parametrize("incremental", [None, False, True])
def test_takes_incremental_input(incremental: bool | None, websockets: bool | None) -> None:
    """incremental_input decides, then websockets; if neither is known, nothing is."""
    upstream = UpstreamSettings("a", URL, websockets=websockets, incremental_input=incremental)

    assert (websockets if incremental is None else incremental) is upstream.takes_incremental_input


def test_secrets_are_never_shown() -> None:
    """Neither repr nor the description of the settings shows a key or the password of a proxy."""
    environ = {"WSGI_PROXY_UPSTREAM_API_KEY": "secret", "WSGI_PROXY_PROXY_URL": "http://me:secret@proxy:1"}
    settings = load(None, environ, {"upstream": URL})

    assert "secret" not in repr(settings)
    assert "secret" not in repr(described(settings))
    assert ("upstream_api_key", "set", "environment WSGI_PROXY_UPSTREAM_API_KEY") in described(settings)
    assert ("proxy_url", "http://***@proxy:1", "environment WSGI_PROXY_PROXY_URL") in described(settings)
    assert len(SETTINGS) == len(described(settings))


def test_secrets_of_tables_are_never_shown() -> None:
    """Neither repr nor the description shows keys of upstreams and clients, their digests, headers and passwords."""
    Path("my.keys").write_text(f"filed:{DIGEST[::-1]}")
    text = 'keys_file = "my.keys"\n' + table(
        api_keys='["secret-1", "secret-2"]', headers='{ "x-a" = "secret" }', proxy_url='"http://me:secret@proxy:1"'
    )
    text += f'[[keys]]\nname = "a"\nkey = "secret"\n[[keys]]\nname = "b"\nsha256 = "{DIGEST}"\n'

    settings = read(text, {"WSGI_PROXY_CLIENT_KEYS": "env:secret-env"})

    digests = [client.sha256 for client in settings.keys]
    assert ["filed", "env", "a", "b"] == [client.name for client in settings.keys]
    for shown in (repr(settings), repr(settings.upstreams), repr(settings.keys), repr(described(settings))):
        assert [] == [secret for secret in ("secret", *digests) if secret in shown]
    rows = described(settings)
    assert ("upstreams[0].api_keys", "set", "file test.toml") in rows
    assert ("upstreams[0].headers", "set", "file test.toml") in rows
    assert ("upstreams[0].proxy_url", "http://***@proxy:1", "file test.toml") in rows
    assert ("client_keys", "set", "environment WSGI_PROXY_CLIENT_KEYS") in rows
    assert {"a", "b", "env", "filed"} == {value for name, value, _ in rows if re.fullmatch(r"keys\[\d\]\.name", name)}


def test_described_upstreams_table() -> None:
    """The description says which file an upstream came from."""
    settings = read(f'[[upstreams]]\nname = "a"\nbase_url = "{URL}"\nwebsockets = true')

    assert ("upstreams[0].base_url", URL, "file test.toml") in described(settings)
    assert ("upstreams[0].websockets", "true", "file test.toml") in described(settings)
    assert ("upstreams[0].api_keys", "not set", "file test.toml") in described(settings)
    assert ("upstreams[0].gap_timeout", "5min", "file test.toml") in described(settings)
    assert ("upstreams[0].models", "*", "file test.toml") in described(settings)


def test_table_names_every_setting() -> None:
    """The tables for the README have a row for every setting and every key of an upstream and of a client key."""
    table = settings_table_markdown()

    assert [setting.name for setting in (*SETTINGS, *UPSTREAM_SETTINGS, *KEY_SETTINGS)] == [
        line.split("`")[1] for line in table.splitlines() if line.startswith("| `")
    ]
