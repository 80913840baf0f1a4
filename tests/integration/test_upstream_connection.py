"""A connection to an upstream that speaks WebSocket: its limits, its care, and how it is left."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from wsgi_proxy.errors import ClosedEarly, ProtocolFault
from wsgi_proxy.settings import Settings
from wsgi_proxy.upstream import connection as connection_module
from wsgi_proxy.upstream.connection import Connection

from ..websocket_upstream import Wait
from ..websocket_upstream import WebSocketUpstream as Mock
from .upstream_socket import COMPLETED, CREATED, DELTA, MESSAGE, SETTINGS, run, session_at, upstream_at

RESERVED = b"\x83\x00"  # a frame of an opcode that there is not


@pytest.fixture
def mock() -> Iterator[Mock]:
    with Mock() as server:
        yield server


@contextlib.contextmanager
def deaf_server(payload: bytes, go_on: threading.Event) -> Iterator[str]:
    """Shake hands, answer a message with one event, and then read nothing."""

    def talk(client: socket.socket) -> None:
        client.recv(2**16)  # the message
        client.sendall(Frame(Opcode.TEXT, payload).serialize(mask=False))
        go_on.wait(5)

    with shaking_server(talk) as url:
        yield url


@contextlib.contextmanager
def shaking_server(talk: Callable[[socket.socket], None], first: bytes = b"") -> Iterator[str]:
    """Shake hands with one client, with some bytes right behind the answer, and have a function go on."""

    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        protocol = ServerProtocol()
        with client, contextlib.suppress(OSError):
            client.settimeout(20)  # longer than anybody here waits for the other side
            protocol.receive_data(client.recv(2**16))
            protocol.send_response(protocol.accept(protocol.events_received()[0]))  # type: ignore[arg-type]
            client.sendall(b"".join([*protocol.data_to_send(), first]))
            talk(client)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        thread.join(5)


@contextlib.contextmanager
def connected(talk: Callable[[socket.socket], None], first: bytes = b"", **settings: Any) -> Iterator[Connection]:
    """Connect to a server that shakes hands and goes on with a function; see that our side is closed soon."""
    patient = replace(SETTINGS, close_timeout=60.0, max_event_bytes=2**40)
    with shaking_server(talk, first) as url:
        connection = upstream_at(url, replace(patient, **settings)).open({})
        yield connection
        deadline = time.monotonic() + 5
        while connection._socket.fileno() != -1:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def flood(client: socket.socket) -> None:
    """Send until the other side has left."""
    while True:
        client.sendall(b"x" * 2**16)


@pytest.mark.parametrize("event", [b"x" * (2**16 + 1), [b"x" * 2**15, b"x" * 2**15, b"x"]], ids=["whole", "fragments"])
def test_an_event_of_more_than_the_limit_fails_its_turn(mock: Mock, event: Any) -> None:
    """One of the limit does not; the upstream is told with 1009."""
    mock.reply(b"x" * 2**16, event)
    with session_at(mock.url) as session:
        with pytest.raises(ProtocolFault, match="more than 65536 bytes"), session.execute(lambda _: MESSAGE) as events:
            for received in events:
                assert [2**16] == [len(payload) for payload in received]
        assert mock.peers[0].left.wait(5)
    assert 1009 == mock.peers[0].code


def test_events_that_came_together_are_given_together(mock: Mock) -> None:
    """So they can leave in one send; fragments are one event."""
    go_on = threading.Event()
    mock.reply(CREATED, Wait(go_on), [DELTA[:20], DELTA[20:]], *[DELTA] * 10, COMPLETED)
    with session_at(mock.url) as session, session.execute(lambda name: MESSAGE) as events:
        payloads = iter(events)
        next(payloads)
        go_on.set()
        connection = events._connection
        with connection._changed:
            assert connection._changed.wait_for(lambda: len(connection._received) == 12, 5)
        assert [*[DELTA] * 11, COMPLETED] == next(payloads)


def test_an_event_may_be_larger_than_what_is_held(mock: Mock) -> None:
    """Also in fragments."""
    large = b"x" * (connection_module.HELD_BYTES + 1)
    with session_at(mock.url, Settings()) as session:
        for payload in (large, [large, large], COMPLETED):
            mock.reply(payload)
            with session.execute(lambda name: MESSAGE) as events:
                assert [payload if isinstance(payload, bytes) else b"".join(payload)] == next(iter(events))
                events.drain()


def test_an_upstream_that_breaks_the_rules_at_once_is_told() -> None:
    """Right behind its handshake, and before anybody has sent it something."""
    heard: list[bytes] = []
    with connected(lambda client: heard.append(client.recv(2**10)), RESERVED) as connection:
        connection.close()
    assert b"\x88" == heard[0][:1]


def test_an_upstream_that_is_still_sending_is_told_too() -> None:
    """As much as an event may have; more would be one for ever. It reads only when it has sent all of that."""
    heard: list[bytes] = []

    def talk(client: socket.socket) -> None:
        client.sendall(RESERVED + b"x" * 2**24)
        heard.append(client.recv(2**10))

    with connected(talk, max_event_bytes=2**24):
        pass
    assert b"\x88" == heard[0][:1]


def test_an_upstream_that_broke_the_rules_is_not_waited_for_long() -> None:
    """It may read why we leave; if it does not go then, we do."""
    left = threading.Event()

    def talk(client: socket.socket) -> None:
        if client.recv(2**10) and not client.recv(1):
            left.set()

    with connected(talk, RESERVED, close_timeout=0.1):
        assert left.wait(5)


def test_an_upstream_that_broke_the_rules_may_not_send_for_ever() -> None:
    """However much time there is."""
    with connected(flood, RESERVED, max_event_bytes=2**20):
        pass


def test_an_upstream_that_is_broken_off_gets_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would wait for a connection that nobody reads any more."""
    monkeypatch.setattr(connection_module, "HELD_BYTES", 1)
    stuck, left = threading.Event(), threading.Event()

    def talk(client: socket.socket) -> None:
        client.recv(2**16)  # the message
        client.sendall(Frame(Opcode.TEXT, CREATED).serialize(mask=False) + RESERVED)
        client.settimeout(1.0)  # so long that the kernel does not soon look for room again
        with contextlib.suppress(TimeoutError):
            flood(client)
        stuck.set()
        client.settimeout(20)
        with contextlib.suppress(ConnectionError):
            flood(client)
        left.set()

    with connected(talk) as connection:
        connection.send(MESSAGE)
        assert stuck.wait(5)
        connection.close()
        assert left.wait(5)


def test_who_still_sends_to_an_upstream_that_broke_the_rules_is_set_free() -> None:
    """The close frame could only go behind the message."""
    go_on = threading.Event()

    def talk(client: socket.socket) -> None:
        client.recv(2**16)  # the beginning of the message
        client.sendall(RESERVED)
        go_on.wait(20)

    with connected(talk) as connection:
        sender = threading.Thread(target=connection.send, args=(b"x" * 2**24,))
        sender.start()
        sender.join(5)
        assert not sender.is_alive()
        go_on.set()


def test_an_upstream_that_broke_the_rules_while_it_took_in_a_message_is_told() -> None:
    """Who sends the message has only not heard yet that all of it has left."""
    heard: list[bytes] = []
    locked = threading.Event()

    def talk(client: socket.socket) -> None:
        locked.wait(5)
        client.sendall(RESERVED)
        heard.append(client.recv(2**10))

    with connected(talk) as connection:
        connection._writing.acquire()
        locked.set()
        assert [] == connection.receive(5)
        time.sleep(0.2)  # a scheduler's mood
        connection._writing.release()
    assert b"\x88" == heard[0][:1]


def test_an_upstream_that_broke_the_rules_and_takes_in_a_message_slowly_is_not_waited_for_long() -> None:
    """It has the time that the settings give, to the end of the message and to its own together."""
    locked = threading.Event()

    def talk(client: socket.socket) -> None:
        locked.wait(5)
        client.sendall(RESERVED)
        client.recv(1)

    with connected(talk, close_timeout=0.1) as connection:
        connection._writing.acquire()
        locked.set()


def test_pings_are_answered_between_turns(mock: Mock) -> None:
    """An upstream that gets no answer would leave, and take its ids along."""
    mock.reply(COMPLETED)
    with session_at(mock.url) as session:
        run(session)
        assert mock.peers[0].connection.ping().wait(5)


def test_an_upstream_that_answers_no_ping_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the gap timeout would tell, and between turns."""
    monkeypatch.setattr(connection_module, "PING_SECONDS", 0.1)
    go_on = threading.Event()
    with deaf_server(CREATED, go_on) as url, session_at(url) as session:
        with pytest.raises(ClosedEarly, match=r"no ping for 0\.1 s"), session.execute(lambda name: MESSAGE) as events:
            for _ in events:
                pass
        go_on.set()


def test_an_upstream_that_takes_in_nothing_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that cannot be sent ends the connection, rather than waiting for the first event."""
    monkeypatch.setattr(connection_module, "PING_SECONDS", 0.1)
    go_on = threading.Event()
    with deaf_server(CREATED, go_on) as url:
        connection = upstream_at(url).open({})
        connection.send(MESSAGE)
        assert [CREATED] == connection.receive(5)
        connection.send(b"x" * 2**24)
        assert [] == connection.receive(5)
        assert "the upstream took in nothing for 0.1 s" == str(connection.fault())
        connection.close()
        go_on.set()


def test_a_client_that_is_slow_does_not_make_its_upstream_dead(mock: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    """While events wait to be taken, pongs behind them are not missed; and only so many events are held."""
    monkeypatch.setattr(connection_module, "PING_SECONDS", 0.1)
    big = b"x" * 2**16
    mock.reply(*[big] * 50, COMPLETED)
    with session_at(mock.url) as session, session.execute(lambda name: MESSAGE) as events:
        count = 0
        for received in events:
            assert len(received) <= 6  # HELD_BYTES, and what one more read completes
            count += len(received)
            if received[-1] == COMPLETED:
                break
            threading.Event().wait(0.3)
    assert 51 == count


def test_silence_is_broken_with_pings(mock: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upstream that answers them may think for as long as the settings allow."""
    monkeypatch.setattr(connection_module, "PING_SECONDS", 0.05)
    go_on = threading.Event()
    mock.reply(Wait(go_on), COMPLETED)
    timer = threading.Timer(0.5, go_on.set)
    timer.start()
    with session_at(mock.url) as session:
        assert [COMPLETED] == run(session)[1]
    timer.join()
    assert 1 == mock.handshakes
