"""Where settings come from, and what is said about those that are not accepted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from wsgi_proxy.errors import SettingsError
from wsgi_proxy.settings import (
    NO_UPSTREAM,
    SETTINGS,
    UPSTREAM_SETTINGS,
    Given,
    Setting,
    Settings,
    UpstreamSettings,
    described,
    load,
    parse_websockets,
    settings_table_markdown,
)

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
    attributes = [field for field in dataclasses.fields(Settings) if field.name not in ("upstreams", "sources")]
    rows = [
        (setting.name, None if setting.default is None else setting.read(Given(setting.default, "default")))
        for setting in SETTINGS
    ]

    assert [(field.name, field.default) for field in attributes] == rows


def test_upstream_table_and_dataclass_agree() -> None:
    """Every key of an [[upstreams]] table is an attribute of UpstreamSettings, except for the metadata."""
    attributes = [field.name for field in dataclasses.fields(UpstreamSettings)]

    assert [*attributes, "metadata"] == [setting.name for setting in UPSTREAM_SETTINGS]


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
    assert () == settings.upstreams


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


def test_upstream_is_short_for_one_table() -> None:
    """`upstream` gives the upstream named default, with the key and the HTTP proxy."""
    environ = {"WSGI_PROXY_UPSTREAM_API_KEY": "key", "WSGI_PROXY_PROXY_URL": "http://proxy:3128"}

    settings = load(None, environ, {"upstream": URL})

    assert (UpstreamSettings("default", URL, "key", "http://proxy:3128"),) == settings.upstreams
    assert settings.upstreams[0] is settings.require_upstream()


def test_upstreams_table() -> None:
    """An [[upstreams]] table gives all that is known about an upstream."""
    text = f"""
        proxy_url = "http://general:1"
        [[upstreams]]
        name = "mine"
        base_url = "{URL}/"
        api_key = "key"
        proxy_url = "http://special:2"
        websockets = "f"
        incremental_input = true
    """
    expected = UpstreamSettings("mine", URL, "key", "http://special:2", websockets=False, incremental_input=True)

    assert (expected,) == read(text).upstreams


def test_upstreams_table_inherits_proxy() -> None:
    """An [[upstreams]] table without proxy_url takes the general one."""
    text = f'proxy_url = "http://general:1"\nupstreams = [{{name = "a", base_url = "{URL}"}}]'

    assert "http://general:1" == read(text).require_upstream().proxy_url


def test_no_upstream() -> None:
    """Where an upstream is needed, the error says the ways to give one."""
    with pytest.raises(SettingsError) as caught:
        Settings().require_upstream()

    assert NO_UPSTREAM == str(caught.value)
    for way in ("--upstream", "WSGI_PROXY_UPSTREAM", "[[upstreams]]"):
        assert way in NO_UPSTREAM


def test_two_upstreams() -> None:
    """With two upstreams the error says that one must go, and names both."""
    text = "".join(f'[[upstreams]]\nname = "{name}"\nbase_url = "{URL}"\n' for name in ("red", "blue"))

    assert "upstreams (file test.toml): only one can be used at present, keep one of red, blue." == refusal(text)


def test_upstream_replaces_upstreams_of_the_file() -> None:
    """An upstream of the environment or the command line is used instead of the file's tables."""
    text = f'[[upstreams]]\nname = "a"\nbase_url = "{URL}"\napi_key = "of the file"'

    settings = read(text.replace(" of the file", "-file"), {}, upstream="http://other/v1")

    assert (UpstreamSettings("default", "http://other/v1"),) == settings.upstreams
    assert "default" == settings.sources["upstreams"]


@pytest.mark.parametrize(
    ("environ", "key"), [({}, None), ({"WSGI_PROXY_UPSTREAM_API_KEY": "key-environment"}, "key-environment")]
)
def test_key_stays_with_its_upstream(environ: dict[str, str], key: str | None) -> None:
    """The key that the file gives with its upstream never goes to an upstream that was given elsewhere."""
    text = f'upstream = "{URL}"\nupstream_api_key = "key-file"'

    assert "key-file" == read(text).require_upstream().api_key
    assert key == read(text, environ, upstream="http://other/v1").require_upstream().api_key


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

    assert expected == read(upstreams, {"KEY": "secret"}).require_upstream().api_key


def test_substituted_text_is_not_substituted_again() -> None:
    """A value that comes from the environment is taken as it is."""
    text = f'upstream = "{URL}"\nupstream_api_key = "${{KEY}}"'

    assert "${OTHER}$$" == read(text, {"KEY": "${OTHER}$$"}).require_upstream().api_key


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
]


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

    assert read(text).require_upstream().websockets is True


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


def test_described_upstreams_table() -> None:
    """The description says which file an upstream came from."""
    settings = read(f'[[upstreams]]\nname = "a"\nbase_url = "{URL}"\nwebsockets = true')

    assert ("upstreams[0].base_url", URL, "file test.toml") in described(settings)
    assert ("upstreams[0].websockets", "true", "file test.toml") in described(settings)
    assert ("upstreams[0].api_key", "not set", "file test.toml") in described(settings)


def test_table_names_every_setting() -> None:
    """The table for the README has a row for every setting and every key of an upstream."""
    table = settings_table_markdown()

    assert [setting.name for setting in (*SETTINGS, *UPSTREAM_SETTINGS)] == [
        line.split("`")[1] for line in table.splitlines() if line.startswith("| `")
    ]
