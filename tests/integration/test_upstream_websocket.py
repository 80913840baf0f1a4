"""The executor for upstreams that speak WebSocket: what it sends, and what becomes of everything they may do wrong."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from wsgi_proxy.errors import (
    ClosedEarly,
    ProtocolFault,
    Rejected,
    TimedOut,
    Unreachable,
    UpstreamError,
)
from wsgi_proxy.protocol.dialect import V2
from wsgi_proxy.protocol.messages import create_message
from wsgi_proxy.protocol.session import Session
from wsgi_proxy.protocol.turn import Turn
from wsgi_proxy.settings import Settings
from wsgi_proxy.upstream.websocket import (
    BETA,
    UpgradeRefused,
)

from ..conftest import ROOT, ProxyProcess, UpstreamProcess, free_port
from ..servers import End, ScriptedUpstream
from ..websocket_upstream import Close, Cut, Wait
from ..websocket_upstream import WebSocketUpstream as Mock
from .upstream_socket import COMPLETED, CREATED, DELTA, MESSAGE, SETTINGS, run, session_at, upstream_at

KILLED, MOMENTS = 5, 40  # as in the program killed_turns
FORGOTTEN = b'{"type":"error","status":400,"error":{"code":"previous_response_not_found"}}'
LIMIT = b'{"type":"error","status":400,"error":{"code":"websocket_connection_limit_reached"}}'


@pytest.fixture
def mock() -> Iterator[Mock]:
    with Mock() as server:
        yield server


def test_a_turn_goes_through_untouched(mock: Mock) -> None:
    """The message as it is, and the events byte for byte."""
    mock.reply(CREATED, DELTA, COMPLETED)
    message = {"type": "response.create", "previous_response_id": "r", "input": [1], "generate": False}
    with session_at(mock.url) as session:
        _, payloads = run(session, json.dumps(message).encode())
    assert message == mock.next_message()
    assert [CREATED, DELTA, COMPLETED] == payloads
    assert "/v1/responses" == mock.peers[0].path


def test_the_handshake_names_the_protocol_the_client_and_the_key(mock: Mock) -> None:
    """What is the proxy's business or unknown stays here; text beyond ASCII arrives byte for byte."""
    client = {
        "authorization": "Bearer of-the-client",
        "session-id": "s1",
        "x-client-request-id": "r1",
        "x-codex-turn-metadata": '{"dir":"/h\u00c3\u00a9"}',  # UTF-8 bytes, as latin-1 carries them
        "user-agent": "codex/1",
        "openai-beta": "responses_websockets=2026-02-04",
        "cookie": "secret=1",
        "origin": "http://here",
    }
    for key in ("own", None):
        mock.reply(COMPLETED)
        with contextlib.closing(upstream_at(mock.url, key=key).session(client)) as session:
            run(session)
    for peer, authorization in zip(mock.peers, ("Bearer own", "Bearer of-the-client"), strict=True):
        headers = {name.lower(): value for name, value in peer.headers.raw_items()}
        expected = {
            "authorization": authorization,
            "session-id": "s1",
            "x-client-request-id": "r1",
            "x-codex-turn-metadata": '{"dir":"/h\udcc3\udca9"}',  # how websockets reads bytes beyond ASCII
            "user-agent": "codex/1",
            "openai-beta": BETA,
        }
        transport = ("host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version")
        assert expected == {name: value for name, value in headers.items() if name not in transport}


def test_turns_of_a_session_share_a_connection_that_the_first_one_opens(mock: Mock) -> None:
    """And the end of the session closes it."""
    with session_at(mock.url) as session:
        assert 0 == mock.handshakes
        names = set()
        for _ in range(3):
            mock.reply(CREATED, COMPLETED)
            names.add(run(session)[0])
        assert 1 == len(names) == mock.handshakes
    assert mock.peers[0].left.wait(5)
    assert 1000 == mock.peers[0].code


@pytest.mark.parametrize("end", [Close(1000), Close(1001, "restart"), Close(1011), Cut()], ids=str)
def test_an_upstream_that_leaves_between_turns_is_not_noticed(mock: Mock, end: Any) -> None:
    """The next turn opens a connection, and is told its new name, because ids of the old one are gone."""
    mock.reply(COMPLETED, end)
    mock.reply(COMPLETED)
    with session_at(mock.url) as session:
        first, _ = run(session)
        assert mock.peers[0].left.wait(5)
        second, payloads = run(session)
    assert [COMPLETED] == payloads
    assert first != second


@pytest.mark.parametrize("error", [LIMIT, FORGOTTEN], ids=["limit", "forgotten"])
def test_what_is_wrong_with_a_connection_is_not_noticed(mock: Mock, error: bytes) -> None:
    """Be it told between turns or as an answer, even if the upstream does not close the connection."""
    mock.reply(COMPLETED, error)
    mock.reply(error)
    mock.reply(COMPLETED)
    with session_at(mock.url) as session:
        first, _ = run(session)
        second, payloads = run(session)
    assert [COMPLETED] == payloads
    assert first != second
    assert [2, 1] == [len(peer.messages) for peer in mock.peers]


@pytest.mark.parametrize("error", [LIMIT, FORGOTTEN], ids=["limit", "forgotten"])
def test_what_is_told_on_a_new_connection_is_passed_on(mock: Mock, error: bytes) -> None:
    """The upstream means it."""
    mock.reply(error)
    mock.reply(error)
    with session_at(mock.url) as session:
        assert [error] == run(session)[1]
    assert 2 == mock.handshakes


@pytest.mark.parametrize("end", [Close(1011, "oops"), Cut()], ids=str)
def test_a_turn_without_an_event_is_sent_again_once(mock: Mock, end: Any) -> None:
    """On a new connection, whose name the message is made for."""
    mock.reply(end)
    mock.reply(CREATED, COMPLETED)
    with session_at(mock.url) as session:
        messages = iter((b'{"n":1}', b'{"n":2}'))
        with session.execute(lambda name: next(messages)) as events:
            assert [CREATED] == next(iter(events))[:1]
    assert [[{"n": 1}], [{"n": 2}]] == [peer.messages for peer in mock.peers]


def test_a_turn_that_gets_no_event_twice_fails(mock: Mock) -> None:
    """With the close code; it is not sent a third time."""
    mock.reply(Cut())
    mock.reply(Close(1013, "busy"))
    with session_at(mock.url) as session, pytest.raises(ClosedEarly, match=r"closed the WebSocket with 1013 .* busy"):
        run(session)
    assert 2 == mock.handshakes


@pytest.mark.parametrize(
    ("end", "words"),
    [(Close(1012, "bye"), "closed the WebSocket with 1012 .* bye"), (Cut(), "without a close frame")],
    ids=str,
)
def test_an_upstream_that_leaves_during_a_turn_is_one_clear_error(mock: Mock, end: Any, words: str) -> None:
    """After what it has said; and the next turn goes on with a new connection."""
    mock.reply(CREATED, DELTA, end)
    mock.reply(COMPLETED)
    with session_at(mock.url) as session:
        payloads: list[bytes] = []
        with pytest.raises(ClosedEarly, match=words), session.execute(lambda name: MESSAGE) as events:
            for received in events:
                payloads += received
        assert [CREATED, DELTA] == payloads
        assert [COMPLETED] == run(session)[1]
    assert 2 == mock.handshakes


@pytest.mark.parametrize("before", [(), (CREATED,)], ids=["at once", "after an event"])
def test_a_message_that_is_too_big_for_the_upstream_is_413(mock: Mock, before: tuple[bytes, ...]) -> None:
    """It is not sent again."""
    mock.reply(*before, Close(1009, "over 16 MiB"))
    with session_at(mock.url) as session, pytest.raises(UpstreamError, match="1009") as caught:
        run(session)
    assert (413, "message_too_big") == (caught.value.status, caught.value.code)
    assert 1 == mock.handshakes


def test_a_message_that_the_upstream_does_not_read_to_its_end_is_413() -> None:
    """The close frame counts, although the rest of the message cannot be sent."""
    with Mock(max_size=2**16) as mock, session_at(mock.url) as session:
        with pytest.raises(UpstreamError) as caught:
            run(session, b'"' + b"x" * 2**23 + b'"')
        assert (413, 1) == (caught.value.status, mock.handshakes)


@pytest.mark.parametrize("status", [404, 405, 426])
def test_a_refused_upgrade_is_remembered_for_a_while(mock: Mock, status: int) -> None:
    """No other session asks either; later one asks again."""
    upstream = upstream_at(mock.url, replace(SETTINGS, websocket_retry=0.3))
    mock.refuse(status, b'{"error":{"message":"no"}}')
    mock.reply(COMPLETED)
    for words in (f"with {status}", "a while ago"):
        with contextlib.closing(upstream.session({})) as session, pytest.raises(UpgradeRefused, match=words):
            run(session)
    assert 1 == mock.handshakes
    with contextlib.closing(upstream.session({})) as session:
        deadline = threading.Event()
        while not deadline.wait(0.02):
            with contextlib.suppress(UpgradeRefused):
                run(session)
                break
    assert 2 == mock.handshakes


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 503])
def test_another_refusal_is_the_upstreams_own_error(mock: Mock, status: int) -> None:
    """Its error object and the headers that concern the client, as over HTTP; nothing is remembered."""
    mock.refuse(
        status, b'{"error":{"message":"no","n":1.50}}', retry_after="7", set_cookie="a=b", openai_model="\u00e9"
    )
    with session_at(mock.url) as session:
        with pytest.raises(Rejected) as caught:
            run(session)
        mock.reply(COMPLETED)
        assert [COMPLETED] == run(session)[1]
    error = caught.value
    assert (status, b'{"message":"no","n":1.50}') == (error.status, error.verbatim)
    assert {"retry-after": "7", "openai-model": "\u00c3\u00a9"} == error.headers


@pytest.mark.parametrize("status", [401, 404])
def test_a_refusal_repeats_no_secrets(mock: Mock, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """Neither to the client nor in the log."""
    caplog.set_level(logging.DEBUG, "wsgi_proxy")
    mock.refuse(status, b'{"error":{"message":"Incorrect API key: sk-of-the-upstream, x-team: of-the-operator"}}')
    secrets = {"key": "sk-of-the-upstream", "headers": {"x-team": "of-the-operator"}}
    with session_at(mock.url, **secrets) as session, pytest.raises(UpstreamError) as caught:
        run(session)
    if isinstance(caught.value, Rejected):
        assert b'{"message":"Incorrect API key: ***, x-team: ***"}' == caught.value.verbatim
    assert "Incorrect API key: ***, x-team: ***" in caplog.text
    assert "of-the" not in caplog.text


@pytest.mark.parametrize("url", ["http://upstream.invalid:81/v1", "https://upstream.invalid/v1"])
@pytest.mark.parametrize(
    "proxy_url", ["http://my-secret@127.0.0.1:9", "http://me:secret@127.0.0.1:9/path", "http://me:secret@127.0.0.1:1"]
)
def test_a_proxy_that_is_of_no_use_is_told_without_its_password(
    url: str, proxy_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is an error of the turn."""
    told = pytest.raises(Unreachable, match="'up' cannot be reached")
    with session_at(url, proxy_url=proxy_url) as session, told as caught:
        run(session)
    assert "upstream up cannot be reached" in caplog.text
    assert "secret" not in caplog.text + str(caught.value)


@pytest.mark.parametrize("content", [None, "", "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n"])
def test_certificates_that_cannot_be_read_are_an_error_of_the_turn(mock: Mock, tmp_path: Path, content: str) -> None:
    """A worker starts with such a file, for it may have other upstreams; one that is mended is read."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    upstream = upstream_at(mock.url.replace("http:", "https:"), ca_file=file)
    with contextlib.closing(upstream.session({})) as session:
        with pytest.raises(Unreachable, match=r"certificates to trust cannot be read \(setting ca_file\)"):
            run(session)
        trustme.CA().cert_pem.write_to_path(file)
        with pytest.raises(UpstreamError) as caught:
            run(session)
    assert "ca_file" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b"{}", "answered the upgrade to WebSocket with 200"),
        (307, b"", "redirect"),
        (503, b"<html>busy</html>", "503"),
    ],
)
def test_an_answer_that_is_no_api_is_a_fault(mock: Mock, status: int, body: bytes, words: str) -> None:
    """Pages never reach a client."""
    mock.refuse(status, body, content_type="text/html")
    with session_at(mock.url) as session, pytest.raises(ProtocolFault, match=words):
        run(session)


def test_an_answer_that_is_no_http_is_a_fault() -> None:
    """So are a header too many and a wrong handshake."""
    answers = (
        b"\x00\x01 garbage\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n" + b"x: y\r\n" * 1000 + b"\r\n",
    )
    for answer in answers:
        words = "did not answer the upgrade with WebSocket"
        with raw_server(answer) as url, session_at(url) as session, pytest.raises(ProtocolFault, match=words):
            run(session)


@contextlib.contextmanager
def raw_server(answer: bytes | None) -> Iterator[str]:
    """Accept one connection, read the request, answer with some bytes and close; with None keep silent instead."""

    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            client.settimeout(5)
            client.recv(2**16)
            if answer is None:
                client.recv(2**16)  # until the client leaves
            else:
                client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        thread.join(5)


def test_an_upstream_that_cannot_be_reached_is_told() -> None:
    """As over HTTP."""
    nobody = f"http://127.0.0.1:{free_port()}/v1"
    with session_at(nobody) as session, pytest.raises(Unreachable, match="connection refused"):
        run(session)
    with session_at("http://upstream.invalid/v1") as session, pytest.raises(Unreachable, match="no address"):
        run(session)
    with raw_server(b"") as url, session_at(url) as session, pytest.raises(ClosedEarly, match="before it answered"):
        run(session)


def test_a_handshake_has_a_deadline() -> None:
    """The setting is named, and the socket is closed."""
    settings = Settings(connect_timeout=0.2)
    silent = raw_server(None)
    with silent as url, session_at(url, settings) as session, pytest.raises(TimedOut, match="connect_timeout"):
        run(session)


@pytest.mark.parametrize(("before", "setting"), [((), "first_event_timeout"), ((CREATED,), "gap_timeout")])
def test_a_silent_upstream_is_given_up(mock: Mock, before: tuple[bytes, ...], setting: str) -> None:
    """The message is not sent again, and the connection is closed, because the upstream may still be at it."""
    mock.reply(*before, Wait(threading.Event()))
    settings = Settings(first_event_timeout=0.2, gap_timeout=0.2)
    with session_at(mock.url, settings) as session:
        with pytest.raises(TimedOut, match=setting):
            run(session)
        assert mock.peers[0].left.wait(5)
    assert (1, 1000) == (mock.handshakes, mock.peers[0].code)


def test_a_turn_that_is_left_closes_its_connection(mock: Mock) -> None:
    """The upstream would go on generating otherwise; the next turn opens another."""
    mock.reply(CREATED, Wait(threading.Event()))
    mock.reply(COMPLETED)
    with session_at(mock.url) as session:
        with session.execute(lambda name: MESSAGE) as events:
            assert [CREATED] == next(iter(events))
        assert mock.peers[0].left.wait(5)
        assert [COMPLETED] == run(session)[1]
    assert (2, 1000) == (mock.handshakes, mock.peers[0].code)


def test_turns_at_the_same_time_have_a_connection_each(mock: Mock) -> None:
    """None waits for another, and later each can find the connection that knows its ids."""
    go_on = threading.Event()
    mock.reply(CREATED, Wait(go_on), COMPLETED)
    for _ in range(3):
        mock.reply(CREATED, COMPLETED)
    names: list[str] = []
    with session_at(mock.url) as session:
        with session.execute(lambda name: names.append(name) or MESSAGE) as events:  # type: ignore[func-returns-value]
            payloads = iter(events)
            next(payloads)
            other, _ = run(session)
            go_on.set()
            assert [COMPLETED] == next(payloads)
            events.drain()
        assert names[0] != other
        assert other == run(session, prefer=other)[0]
        assert names[0] == run(session, prefer=names[0])[0]
    assert 2 == mock.handshakes


def test_the_end_of_the_session_closes_what_a_turn_gives_back_later(mock: Mock) -> None:
    """Nothing stays open."""
    mock.reply(COMPLETED)
    session = upstream_at(mock.url).session({})
    with session.execute(lambda name: MESSAGE) as events:
        events.drain()
        session.close()
    assert mock.peers[0].left.wait(5)


def test_what_comes_after_the_terminal_event_is_not_taken_for_the_next_answer(mock: Mock) -> None:
    """A stale event would end the next turn."""
    go_on = threading.Event()
    mock.reply(COMPLETED, Wait(go_on), COMPLETED)
    mock.reply(CREATED, COMPLETED)
    with session_at(mock.url) as session:
        with session.execute(lambda name: MESSAGE) as events:
            assert [COMPLETED] == next(iter(events))
            events.drain()
            go_on.set()
            connection = events._connection
            with connection._changed:
                assert connection._changed.wait_for(lambda: connection._received, 5)
        assert [CREATED, COMPLETED] == run(session)[1]


def test_an_explicit_proxy_is_used_and_those_of_the_environment_are_not(
    mock: Mock, scripted: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With CONNECT, as WebSocket needs it."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    mock.reply(COMPLETED)
    with session_at(mock.url) as session:
        assert [COMPLETED] == run(session)[1]
    scripted.reply(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", End.CLOSE)
    proxy_url = scripted.url.removesuffix("/v1").replace("//", "//user:secret@")
    beyond = session_at("http://upstream.invalid:81/v1", proxy_url=proxy_url)
    with beyond as session, pytest.raises(Unreachable, match=r"^the proxy before the upstream 'up' answered 407$"):
        run(session)
    request = scripted.next_request()
    assert "CONNECT upstream.invalid:81 HTTP/1.1" == request.head.splitlines()[0]
    assert "Basic dXNlcjpzZWNyZXQ=" == request.headers["proxy-authorization"]


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[Mock, str]]:
    """An upstream behind TLS, and the file of the authority that signed its certificate."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with Mock(context) as server:
        yield server, str(tmp_path / "ca.pem")


def test_tls_needs_a_certificate_that_is_trusted(tls: tuple[Mock, str]) -> None:
    """By the file that is given, or not at all if that is wanted."""
    mock, ca_file = tls
    with session_at(mock.url) as session, pytest.raises(Unreachable, match="its certificate is not trusted"):
        run(session)
    for options in ({"ca_file": ca_file}, {"verify": False}):
        with session_at(mock.url, **options) as session:
            for _ in range(2):
                mock.reply(COMPLETED)
                assert [COMPLETED] == run(session)[1]
    assert 2 == mock.handshakes


def test_killed_turns_leave_nothing_behind(mock: Mock, tls: tuple[Mock, str]) -> None:
    """Under gevent, killed in the handshake of TLS or WebSocket or among their events; the upstream is told."""
    for server in (mock, tls[0]):
        server.reply(CREATED, COMPLETED)
        for _ in range(KILLED + MOMENTS):
            server.reply(CREATED, Wait(threading.Event()))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        program = [sys.executable, "-m", "tests.integration.killed_turns", mock.url, tls[0].url, silent]
        done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ("", 0) == (done.stderr, done.returncode)
    for peers in (mock.peers, tls[0].peers):
        assert all(peer.left.wait(5) for peer in peers)
        assert {1000} == {peer.code for peer in peers if peer.messages}


def test_the_proxy_itself_is_an_upstream(start_proxy: Callable[..., ProxyProcess], upstream: UpstreamProcess) -> None:
    """It continues from the id of its connection with the new items only, and a prewarm's id too."""
    proxy = start_proxy(upstream.url, "--workers", "1")
    with session_at(proxy.url) as session:
        prewarm = {"type": "response.create", "generate": False, "model": "demo", "input": [item("base")]}
        ids = [response_id(run(session, json.dumps(prewarm).encode())[1][-1])]
        for text in ("one", "two"):
            message = {"type": "response.create", "model": "demo", "previous_response_id": ids[-1]}
            ids.append(response_id(run(session, json.dumps({**message, "input": [item(text)]}).encode())[1][-1]))
        assert 3 == len(set(ids))
        unknown = {"type": "response.create", "model": "demo", "store": False, "previous_response_id": "x", "input": []}
        error = json.loads(run(session, json.dumps(unknown).encode())[1][-1])
        assert (400, "previous_response_not_found") == (error["status"], error["error"]["code"])
    texts = [
        [part["content"][0]["text"] for part in request["body"]["input"] if part.get("role") == "user"]
        for request in upstream.requests()
    ]
    assert [["base", "one"], ["base", "one", "two"]] == texts


def test_a_session_sends_new_items_only_where_their_id_is_known(mock: Mock) -> None:
    """On the connection that made it; on another one the transcript, and the client notices neither."""
    session = Session(V2, clock=lambda: 0.0, new_id=lambda: "x")
    with session_at(mock.url) as upstream:
        for number, end in ((1, None), (2, Cut()), (3, None)):
            output = [{"type": "message", "role": "assistant", "id": f"m{number}"}]
            response = {"id": f"resp_{number}", "output": output}
            steps = [json.dumps({"type": "response.completed", "response": response}).encode()]
            mock.reply(*steps, *([end] if end else []))
            previous = {"previous_response_id": f"resp_{number - 1}"} if number > 1 else {}
            message = {"type": "response.create", "model": "m", "input": [item(str(number))], **previous}
            turn = session.receive(json.dumps(message).encode())[0]
            assert isinstance(turn, Turn)
            prefer = turn.previous.upstream if turn.previous else None
            with upstream.execute(lambda name: create_message(turn.request_for(name, True)), prefer) as events:  # noqa: B023
                for payloads in events:
                    turn.receive_all(payloads)
                    if turn.over:
                        events.drain()
                        break
            session.finish(turn)
            if end:
                assert mock.peers[-1].left.wait(5)
    sent = [mock.next_message() for _ in range(3)]
    assert [1, 1, 5] == [len(message["input"]) for message in sent]
    assert [None, "resp_1", None] == [message.get("previous_response_id") for message in sent]
    assert {"response.create"} == {message["type"] for message in sent}


def item(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def response_id(payload: bytes) -> str:
    return str(json.loads(payload)["response"]["id"])
