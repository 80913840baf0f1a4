"""The conversation and the chat against a proxy that is honest by default, in this process."""

from __future__ import annotations

import io
import json
import re
import socket
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from websockets.sync.connection import Connection
from websockets.sync.server import Server, serve
from werkzeug.serving import make_server

from wsgi_proxy.demo import chat
from wsgi_proxy.demo.client import (
    describe_error,
    open_connection,
    receive_turn,
    send,
)
from wsgi_proxy.demo.configurations import CONFIGURATIONS, print_client_configurations
from wsgi_proxy.demo.conversation import run_conversation
from wsgi_proxy.demo.process import websocket_url
from wsgi_proxy.demo.screen import Screen, TurnFailed, Waiting
from wsgi_proxy.demo.upstream import UpstreamOptions, create_upstream
from wsgi_proxy.errors import ConnectionLost, ProxyError

Json = dict[str, Any]
NOT_FOUND = {"type": "error", "status": 400, "error": {"code": "previous_response_not_found", "message": "gone"}}


class SmallProxy:
    """
    Keeps the transcripts of each connection and executes turns against an embedded upstream.

    Attributes:
        url: Where to open a WebSocket.
        messages: Every client message so far.
        spoil: Changes the request before the upstream gets it.
        interject: Returns what happens instead of the turn of the Nth message: frames, or an exception.
    """

    def __init__(self) -> None:
        self.app = create_upstream(UpstreamOptions())
        self.server: Server = serve(self._serve, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self.server.socket.getsockname()[1]}/v1/responses"
        self.messages: list[Json] = []
        self.spoil: Callable[[Json], Json] = lambda request: request
        self.interject: dict[int, list[Any] | Exception] = {}

    def _serve(self, connection: Connection) -> None:
        transcripts: dict[str | None, list[Json]] = {None: []}
        for text in connection:
            message = json.loads(text)
            self.messages.append(message)
            frames = self.interject.pop(len(self.messages), None)
            if isinstance(frames, Exception):
                connection.socket.shutdown(socket.SHUT_RDWR)
                return
            known = transcripts.get(message.get("previous_response_id"))
            if known is None:
                frames = [NOT_FOUND]
            if frames is None:
                request = {
                    name: value for name, value in message.items() if name not in ("type", "previous_response_id")
                }
                request = {**request, "stream": True, "input": [*known, *message["input"]]}
                stream = self.app.test_client().post("/v1/responses", json=self.spoil(request)).text
                frames = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
                response = frames[-1].get("response", {})
                transcripts[response.get("id")] = [*request["input"], *response.get("output", [])]
            for frame in frames:
                connection.send(frame if isinstance(frame, str) else json.dumps(frame))

    def received(self) -> list[list[Json]]:
        """The input of each request that the upstream has received."""
        return [record["body"]["input"] for record in self.app.test_client().get("/requests").json]


@pytest.fixture
def proxy() -> Iterator[SmallProxy]:
    small = SmallProxy()
    thread = threading.Thread(target=small.server.serve_forever)
    thread.start()
    yield small
    small.server.shutdown()
    thread.join()


@pytest.fixture
def upstream_url(proxy: SmallProxy) -> Iterator[str]:
    """The URL under which the upstream of the proxy tells what it received."""
    server = make_server("127.0.0.1", 0, proxy.app)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


class TestConversation:
    def test_printed(self, proxy: SmallProxy, upstream_url: str) -> None:
        """The three turns are printed with both sides of the wire and without colours, as this is no terminal."""
        out = io.StringIO()

        run_conversation(proxy.url, upstream_url, out)

        text = out.getvalue()
        for expected in (
            "Turn 1: the user asks a question, and the client offers a tool",
            "client -> proxy  one WebSocket message, ",
            '"type": "response.create"',
            "proxy -> upstream  POST /v1/responses, ",
            "new    message (user): What is the weather in Paris?",
            "response.reasoning_summary_text.delta x9",
            'function_call call_demo_1: get_weather({"city":"Paris"})',
            "known  function_call call_demo_1",
            "new    function_call_output call_demo_1: 18 degrees, clear sky",
            "removed type, previous_response_id; added stream: true",
            'message (assistant): The tool answered: "18 degrees, clear sky"',
            "(turn 2, 6 input items).",
            "received 1 + 4 + 6 items in 3 requests",
        ):
            assert expected in text
        assert "\x1b" not in text

    def test_client_sends_only_what_is_new(self, proxy: SmallProxy, upstream_url: str) -> None:
        """Each message after the first has the id of the answer before and one item."""
        run_conversation(proxy.url, upstream_url, io.StringIO())

        assert [None, "resp_demo_1", "resp_demo_2"] == [each.get("previous_response_id") for each in proxy.messages]
        assert [1, 1, 1] == [len(each["input"]) for each in proxy.messages]
        assert ["tools" in each for each in proxy.messages] == [True, False, False]

    @pytest.mark.parametrize(
        ("spoil", "complaint"),
        [
            (lambda request: {**request, "input": request["input"] * 2}, "Turn 1: the upstream should have received"),
            (lambda request: {**request, "input": request["input"][-1:]}, "Turn 2: the upstream should have received"),
            (lambda request: {**request, "input": request["input"][::-1]}, "Turn 2: the upstream should have received"),
            (lambda request: {**request, "generate": True}, "Turn 1: .*WebSocket reached the upstream: .'generate'"),
            (lambda request: {**request, "tools": []}, "Turn 1: the answer holds no tool call"),
            (
                lambda request: request if "tools" in request else {**request, "model": "demo:empty-output"},
                "Turn 2: the answer does not know the tool's output",
            ),
            (lambda request: {**request, "model": "demo:failed"}, "Turn 1: response.failed instead of an answer"),
            (lambda request: {**request, "model": "demo:error"}, "Turn 1: error instead of an answer: server_error"),
        ],
    )
    def test_dishonest_proxy(
        self, proxy: SmallProxy, upstream_url: str, spoil: Callable[[Json], Json], complaint: str
    ) -> None:
        """What the upstream received is checked, so a proxy that loses, repeats or reorders items is found out."""
        proxy.spoil = spoil

        with pytest.raises(ProxyError, match=complaint):
            run_conversation(proxy.url, upstream_url, io.StringIO())

    def test_no_request(self, proxy: SmallProxy, upstream_url: str) -> None:
        """An answer that no upstream gave is found out as well."""
        proxy.interject[1] = [{"type": "response.completed", "response": {"id": "r", "output": []}}]

        with pytest.raises(ProxyError, match="received 0 requests for one turn"):
            run_conversation(proxy.url, upstream_url, io.StringIO())

    def test_upstream_says_nothing(self, proxy: SmallProxy) -> None:
        """An upstream that does not tell what it received is an error of its own."""
        with pytest.raises(ProxyError, match="The upstream does not say what it received"):
            run_conversation(proxy.url, "http://127.0.0.1:1/v1", io.StringIO())


class TestChat:
    @pytest.fixture
    def talk(self, proxy: SmallProxy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
        """Return a function that chats line by line, without a terminal, and returns what was printed."""

        def talk(*lines: str, model: str = "demo") -> list[str]:
            monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
            chat.run_chat(proxy.url, model, "key")
            return capsys.readouterr().out.splitlines()

        return talk

    def test_two_turns(self, proxy: SmallProxy, talk: Any) -> None:
        """The second message continues from the first answer; empty lines say nothing."""
        assert [
            'You said: "hello" (turn 1, 1 input items).',
            'You said: "again" (turn 2, 3 input items).',
        ] == talk("hello", "  ", "again")
        assert "resp_demo_1" == proxy.messages[1]["previous_response_id"]
        assert 1 == len(proxy.messages[1]["input"])

    def test_tool(self, proxy: SmallProxy, talk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A tool call is shown, run here, and its output sent as the next turn."""
        monkeypatch.setitem(chat.TOOLS, "current_time", lambda: "half past nine")

        assert [
            "The request is best served by the tool current_time.",
            "[current_time({})]",
            'The tool answered: "half past nine"',
        ] == talk("use a tool")
        assert ["function_call_output"] == [item["type"] for item in proxy.messages[1]["input"]]

    def test_no_tools(self, talk: Any) -> None:
        """Tools can be switched off and on again."""
        assert [
            "No tools are offered.",
            'You said: "use a tool" (turn 1, 1 input items).',
            "Tools are offered.",
        ] == talk("/tools", "use a tool", "/tools")

    def test_endless_tool_calls(self, proxy: SmallProxy, talk: Any) -> None:
        """A model that does nothing but call tools is stopped."""
        call = {"type": "function_call", "id": "f", "call_id": "c", "name": "other", "arguments": "{}"}
        answer = [{"type": "response.completed", "response": {"id": "r", "output": [call]}}]
        proxy.interject = dict.fromkeys(range(1, 20), answer)

        with pytest.raises(TurnFailed, match="called tools 8 times"):
            talk("hello")
        assert "There is no tool other." == proxy.messages[1]["input"][0]["output"]

    def test_new(self, proxy: SmallProxy, talk: Any) -> None:
        """A new conversation begins without the old one."""
        assert 'You said: "b" (turn 1, 1 input items).' == talk("a", "/new", "b")[-1]

    @pytest.mark.parametrize(
        "interruption",
        [[NOT_FOUND], ConnectionResetError(), [{**NOT_FOUND, "error": {"code": "websocket_connection_limit_reached"}}]],
    )
    def test_connection_of_no_use(self, proxy: SmallProxy, talk: Any, interruption: Any) -> None:
        """If the connection is gone or knows nothing any more, all items go over a new one, unseen by the user."""
        proxy.interject[2] = interruption

        assert 'You said: "again" (turn 2, 3 input items).' == talk("hello", "again")[-1]
        assert ["resp_demo_1", None] == [each.get("previous_response_id") for each in proxy.messages[1:]]
        assert 3 == len(proxy.messages[2]["input"])

    @pytest.mark.parametrize(
        ("model", "complaint"),
        [("demo:failed", "server_error The demonstration model failed"), ("demo:error", "server_error The demon")],
    )
    def test_failed_turn(self, talk: Any, model: str, complaint: str) -> None:
        """Without a terminal, a turn that fails ends the chat with the error."""
        with pytest.raises(TurnFailed, match=complaint):
            talk("hello", model=model)

    def test_incomplete(self, talk: Any) -> None:
        """An answer that is incomplete is shown, with the reason."""
        assert ['You said: "hello" (tu', "The answer is incomplete: max_output_tokens"] == talk(
            "hello", model="demo:incomplete"
        )

    def test_cut_in_the_middle(self, proxy: SmallProxy, talk: Any) -> None:
        """A connection that breaks when part of the answer is on the screen is not tried again."""
        delta = {"type": "response.output_text.delta", "item_id": "m", "delta": "He"}
        proxy.interject[1] = [delta, {"type": "error", "status": 408, "error": {"type": "t", "message": "closed"}}]

        with pytest.raises(TurnFailed, match="408 t closed"):
            talk("hello")
        assert 1 == len(proxy.messages)


class TestChatter:
    """The conversation of the chat, after failures."""

    def test_failed_turn_never_was(self, proxy: SmallProxy) -> None:
        """After a failed turn the conversation goes on as if it had not been tried."""
        proxy.interject[2] = [{"type": "error", "status": 500, "error": {"message": "broken"}}]
        chatter = chat._Chat(proxy.url, "demo", None)
        chatter.say("one")
        with pytest.raises(TurnFailed):
            chatter.say("two")
        chatter.say("three")
        chatter.disconnect()

        assert ["one", "three"] == [
            item["content"][0]["text"] for item in proxy.received()[-1] if item["role"] == "user"
        ]
        assert "resp_demo_1" == proxy.messages[2]["previous_response_id"]

    def test_interrupted_turn_never_was(self, proxy: SmallProxy, monkeypatch: pytest.MonkeyPatch) -> None:
        """After Ctrl-C the next turn begins with the whole conversation on a new connection."""
        chatter = chat._Chat(proxy.url, "demo", None)
        chatter.say("one")
        with monkeypatch.context() as patched:
            patched.setattr(Screen, "show", interrupt)
            with pytest.raises(KeyboardInterrupt):
                chatter.say("two")
        chatter.say("three")
        chatter.disconnect()

        # The message that was interrupted may come after it, on its own connection.
        anew = [message["input"] for message in proxy.messages if "previous_response_id" not in message]
        for inputs in (anew, proxy.received()):
            assert ["one", "three"] in [
                [item["content"][0]["text"] for item in items if item["role"] == "user"] for items in inputs
            ]


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


class TestScreen:
    def test_whole_message(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A text that did not stream is shown from the output, once."""
        item = {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "Hello"}]}
        done = {"type": "response.output_item.done", "item": item}
        Screen().show([done, {"type": "response.completed", "response": {"output": [item]}}])

        assert "Hello\n" == capsys.readouterr().out

    def test_other_items(self, capsys: pytest.CaptureFixture[str]) -> None:
        """An item of a type that is not known here is named; events that are not known are not."""
        item = {"type": "web_search_call", "id": "w"}
        events = [{"type": "keepalive"}, {"type": "response.output_item.done", "item": item}]
        Screen().show([*events, {"type": "response.completed", "response": {"output": [item]}}])

        assert "[web_search_call]\n" == capsys.readouterr().out

    def test_no_end(self) -> None:
        """A row of events without a terminal one is a failure."""
        with pytest.raises(TurnFailed, match="without a terminal event"):
            Screen().show([])


class TestWaiting:
    OPENING = ({"type": "keepalive"}, {"type": "response.created"})
    DELTA: ClassVar[Json] = {"type": "response.output_text.delta", "item_id": "m", "delta": "Hi"}

    def wait(self, capsys: pytest.CaptureFixture[str], *events: Json) -> list[str]:
        """Return what has been printed when each of some events has come, a while after the one before it."""
        waiting = Waiting()
        printed = []
        for _ in waiting.until_output(events):
            printed.append(plain(capsys.readouterr().out))
            waiting.tick()
        return [*printed, plain(capsys.readouterr().out)]

    def test_terminal(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """On a terminal the time is shown while a response is only opened, and is gone before the first text."""
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        shown = "\rwaiting, 0 s"
        gone = f"\r{' ' * 12}\r"

        assert ["", shown, shown + gone, ""] == self.wait(capsys, *self.OPENING, self.DELTA)
        assert ["", shown + gone] == self.wait(capsys, self.OPENING[0])

    def test_pipe(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Into a pipe goes nothing but the answer."""
        assert ["", "", "", ""] == self.wait(capsys, *self.OPENING, self.DELTA)

    def test_chat(self, proxy: SmallProxy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """The chat shows it while the proxy sends nothing, and then the answer on the same line."""
        ticked = threading.Event()
        tick = Waiting.tick

        def noted(waiting: Waiting) -> None:
            tick(waiting)
            ticked.set()

        monkeypatch.setattr(Waiting, "tick", noted)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        proxy.spoil = lambda request: request if ticked.wait(10.0) else {}
        chatter = chat._Chat(proxy.url, "demo", None)
        chatter.say("hello")
        chatter.disconnect()

        said = plain(capsys.readouterr().out)
        assert re.fullmatch(r"(\rwaiting, \d+ s)+\r +\rYou said: \"hello\" \(turn 1, 1 input items\)\.\n", said)


def plain(text: str) -> str:
    """Return a text without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


class TestClient:
    def test_refused(self) -> None:
        """If nothing listens, the message says what to start."""
        with pytest.raises(ProxyError, match=r"Nothing listens at .*wsgi-proxy serve --demo"):
            open_connection("ws://127.0.0.1:1/v1/responses")

    def test_no_websocket_url(self) -> None:
        """A URL of another kind is named, with an example."""
        with pytest.raises(ProxyError, match="http://x is no WebSocket URL; it looks like ws://"):
            open_connection("http://x")

    @pytest.mark.parametrize(("status", "hint"), [(401, "another key"), (404, "/v1/responses"), (418, "refused")])
    def test_status(self, status: int, hint: str) -> None:
        """If the upgrade is refused, the message says what the status means."""
        with serve(lambda _: None, "127.0.0.1", 0, process_request=lambda c, _: c.respond(status, "")) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            with pytest.raises(ProxyError, match=f"answered {status}: .*{hint}"):
                open_connection(f"ws://127.0.0.1:{server.socket.getsockname()[1]}/")
            server.shutdown()
            thread.join()

    def test_no_server(self) -> None:
        """Something that accepts connections and says nothing of WebSocket is no proxy."""
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def hang_up() -> None:
                listener.accept()[0].close()

            thread = threading.Thread(target=hang_up)
            thread.start()
            with pytest.raises(ProxyError, match="could not be opened as a WebSocket"):
                open_connection(f"ws://127.0.0.1:{listener.getsockname()[1]}/")
            thread.join()

    @pytest.mark.parametrize("text", ["{", "[]", "3"])
    def test_no_event(self, proxy: SmallProxy, text: str) -> None:
        """A message that is no event is an error."""
        proxy.interject[1] = [text]
        with open_connection(proxy.url) as connection:
            send(connection, "{}")
            with pytest.raises(ProxyError, match="sent a message that is not an event"):
                list(receive_turn(connection))

    def test_key(self, proxy: SmallProxy) -> None:
        """A key is sent as bearer token."""
        with open_connection(proxy.url, "k") as connection:
            assert "Bearer k" == connection.request.headers["authorization"]

    def test_time_is_over(self, proxy: SmallProxy) -> None:
        """A turn that does not end in time is an error."""
        with open_connection(proxy.url) as connection, pytest.raises(ProxyError, match=r"within 0\.01 seconds"):
            list(receive_turn(connection, seconds=0.01))

    @pytest.mark.parametrize(("code", "expected"), [(1001, "1001 bye"), (1005, "did not say why")])
    def test_closed(self, code: int, expected: str) -> None:
        """If the proxy closes the connection, the error says how."""

        def close(connection: Connection) -> None:
            with connection.send_context():
                connection.protocol.send_close(code, "bye") if code != 1005 else connection.protocol.send_close()

        with serve(close, "127.0.0.1", 0) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            with open_connection(f"ws://127.0.0.1:{server.socket.getsockname()[1]}/") as connection:
                with pytest.raises(ConnectionLost, match=expected):
                    list(receive_turn(connection))
                with pytest.raises(ConnectionLost, match=expected):
                    send(connection, "{}")
            server.shutdown()
            thread.join()

    @pytest.mark.parametrize(
        ("event", "expected"),
        [
            ({"status": 429, "error": {"code": "c", "type": "t", "message": "m"}}, "429 c m"),
            ({"error": {"type": "t", "message": "m"}}, "t m"),
            ({"type": "error", "code": "c", "message": "m"}, "c m"),
            ({"response": {"error": {"code": "c", "message": "m"}}}, "c m"),
            ({"response": {"error": None, "incomplete_details": {"reason": "r"}}}, "r"),
        ],
    )
    def test_described(self, event: Json, expected: str) -> None:
        """An error is one line, whatever form it comes in."""
        assert expected == describe_error(event)


def test_configurations() -> None:
    """Every client's configuration names the proxy's address and the model, and has no braces left over."""
    out = io.StringIO()
    print_client_configurations("http://127.0.0.1:9/v1", out, model="some-model")

    text = out.getvalue()
    assert len(CONFIGURATIONS) == text.count('"http://127.0.0.1:9/v1"')
    assert len(CONFIGURATIONS) == text.count('"some-model"')
    assert "{{" not in text
    assert "wsgi-proxy chat --url ws://127.0.0.1:9/v1/responses" in text


def test_codex_configuration() -> None:
    """Codex's configuration is a TOML file that switches WebSocket on."""
    configuration = tomllib.loads(CONFIGURATIONS["Codex CLI"].format(base_url="http://127.0.0.1:9/v1", model="m"))

    provider = configuration["model_providers"][configuration["model_provider"]]
    assert ("http://127.0.0.1:9/v1", True) == (provider["base_url"], provider["supports_websockets"])


def test_websocket_url() -> None:
    """The address of the WebSocket follows from the base URL."""
    assert "wss://h/v1/responses" == websocket_url("https://h/v1/")
