"""The HTTP routes beside the WebSocket: for clients that do not upgrade, and for what has no event stream."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import gevent
from flask import Blueprint, Response, request

from ..errors import (
    AccessError,
    Bug,
    ConnectionLost,
    ProxyError,
    RequestError,
    TurnTimedOut,
    UpstreamError,
)
from ..observe.observer import Observer
from ..observe.turn_trace import TurnTrace
from ..protocol.passage import Passage
from ..protocol.rejection import passed_headers
from ..protocol.signals import not_found
from ..settings import Settings
from ..upstream.credentials import Credential
from ..upstream.execution import Executor
from ..upstream.http import Reply
from ..upstream.upstreams import Upstreams
from .access import Access, Client
from .attendance import attended
from .drain import DRAIN
from .memory import Memory
from .models import Catalogue
from .replies import (
    carried,
    client_headers,
    dumps,
    local_address,
    refusal,
    refused,
    socket_of,
)
from .streaming import streamed

log = logging.getLogger(__name__)

# A path segment; "." and ".." would lead to other paths of the upstream.
RESPONSE_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.:-]{1,256}")
CLOSE = {"connection": "close"}
# Of a body whose length is not known; each is counted.
PIECE_BYTES = 2**20


class Caller(NamedTuple):
    """Who sends a request, what executes it, its name, and all its headers."""

    client: Client
    executor: Executor
    name: str
    headers: Mapping[str, str]


class Surface:
    """
    What answers HTTP requests.

    Args:
        settings: Limits.
        upstreams: Those of the worker.
        access: Who may ask.
        memory: Of the worker; requests take their part of it.
        observer: Of the worker.
    """

    def __init__(
        self, settings: Settings, upstreams: Upstreams, access: Access, memory: Memory, observer: Observer
    ) -> None:
        self._settings = settings
        self._upstreams = upstreams
        self._access = access
        self._memory = memory
        self._observer = observer
        self._catalogue = Catalogue(upstreams)

    def add_routes(self, blueprint: Blueprint, prefixes: Iterable[str]) -> None:
        """Add all routes, below each of some prefixes such as `/v1`."""
        for path, method, answer in (
            ("/responses", "POST", self._create),
            ("/responses/compact", "POST", self._compact),
            ("/models", "GET", self._models),
            ("/models/<path:model>", "GET", self._model),
            ("/responses/<response_id>", "GET", self._stored),
            ("/responses/<response_id>", "DELETE", self._stored),
            ("/responses/<response_id>/cancel", "POST", self._stored),
            ("/responses/<response_id>/input_items", "GET", self._stored),
        ):
            view = self._guarded(answer)
            for prefix in prefixes:
                blueprint.add_url_rule(prefix + path, f"{method} {path}", view, methods=[method])

    def _guarded(self, answer: Callable[..., Response]) -> Callable[..., Response]:
        """Have a route called with who asks, and its errors answered."""

        def route(**arguments: str) -> Response:
            DRAIN.count()
            try:
                return answer(self._caller(), **arguments)
            except ConnectionLost:
                return Response(status=499)  # nobody is left to read it
            except AccessError as error:
                return refused(error)
            except ProxyError as error:
                return refusal(error)

        return route

    def _caller(self) -> Caller:
        admission = self._access.admit(request.environ, local_address(request.environ))
        headers = client_headers(request.environ)
        name = uuid.uuid4().hex
        executor = Executor(
            self._upstreams,
            name=name,
            headers=self._access.without_secrets(headers),
            schedule=gevent.spawn_later,
            asker=admission.client.name,
        )
        return Caller(admission.client, executor, name, headers)

    def _create(self, caller: Caller) -> Response:
        passage, trace = self._received(caller)
        if not passage.streams:
            return self._fetched(caller, passage, "/responses", trace)
        sock = socket_of(request.environ)
        response = streamed(sock, passage, lambda deliver: self._stream(caller, passage, deliver, trace))
        if request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
            response.headers.extend(CLOSE)  # nothing else would tell such a client where the events end
        return response

    def _compact(self, caller: Caller) -> Response:
        passage, trace = self._received(caller)
        return self._fetched(caller, passage, "/responses/compact", trace)

    def _fetched(self, caller: Caller, passage: Passage, path: str, trace: TurnTrace) -> Response:
        return _answer(attended(socket_of(request.environ), lambda: self._fetch(caller, passage, path, trace)))

    def _fetch(self, caller: Caller, passage: Passage, path: str, trace: TurnTrace) -> Reply:
        with (
            _followed(trace, passage),
            caller.client.turn(passage.model),
            self._memory.request(passage.size),
            self._in_time(),
        ):
            return caller.executor.fetch(passage, path, trace)

    def _stream(
        self, caller: Caller, passage: Passage, deliver: Callable[[list[bytes]], None], trace: TurnTrace
    ) -> None:
        with _followed(trace, passage), ExitStack() as counted, self._memory.request(passage.size), self._in_time():
            counted.enter_context(caller.client.turn(passage.model))

            def pass_on(events: list[bytes]) -> None:
                if passage.over:
                    counted.close()  # a client that is quick may send its next request
                deliver(events)

            caller.executor.stream(passage, pass_on, trace)

    def _in_time(self) -> gevent.Timeout:
        seconds = self._settings.turn_timeout
        return gevent.Timeout(seconds or None, TurnTimedOut(seconds))

    def _received(self, caller: Caller) -> tuple[Passage, TurnTrace]:
        """Read a request; whoever gets it has to see to it that it ends."""
        client = request.remote_addr or "-"
        session = self._observer.request(caller.name, caller.headers, client=client, key=caller.client.name)
        arrival = None
        try:
            self._memory.admit_request()
            body = _body(self._settings.max_message_bytes, self._memory)
            arrival = session.message(body)
            passage = Passage(body, exact=caller.client.may_use_all)
            if passage.previous_id and caller.executor.is_of_others(passage.previous_id):
                raise not_found(passage.previous_id)
        except ProxyError as error:
            session.turn(arrival, "").failed(error)
            raise
        else:
            return passage, session.turn(arrival, passage.model)
        finally:
            if not session.running:
                session.close()

    def _models(self, caller: Caller) -> Response:
        models = [model for model in self._catalogue.models(caller.executor) if caller.client.may_use(model["id"])]
        return _json({"object": "list", "data": models})

    def _model(self, caller: Caller, model: str) -> Response:
        for known in self._catalogue.models(caller.executor):
            if known["id"] == model and caller.client.may_use(model):
                return _json(known)
        raise _not_found(f"The model {model:.200} does not exist.", code="model_not_found", param="model")

    def _stored(self, caller: Caller, response_id: str) -> Response:
        """Ask the upstream that made a response; if that is not known, one after the other."""
        if not RESPONSE_ID.fullmatch(response_id) or caller.executor.is_of_others(response_id):
            raise _unknown_response(response_id)
        # What follows the prefix, which may be that of another application's mount, is the upstream's path.
        path = request.path[request.path.rindex("/responses/") :]
        query = request.query_string.decode("latin-1")
        path = f"{path}?{query}" if query else path
        made = self._upstreams.credentials.maker_of(response_id)
        credentials = [made.credential] if made else self._upstreams.credentials.all
        # Only this greenlet knows the request. HEAD is answered like GET, also where an upstream does not know it.
        method = "GET" if request.method == "HEAD" else request.method
        return _answer(attended(socket_of(request.environ), lambda: _asked(caller.executor, credentials, method, path)))


@contextmanager
def _followed(trace: TurnTrace, passage: Passage) -> Iterator[None]:
    """Note how a request ends, and that nothing follows."""
    try:
        yield
        trace.ended(passage)
    except ConnectionLost:
        raise
    except ProxyError as error:
        trace.failed(error, passage)
        raise
    except Exception:
        trace.failed(Bug("request"), passage)
        raise
    finally:
        trace.cancelled("the client left")
        trace.session.close()


def _asked(executor: Executor, credentials: list[Credential], method: str, path: str) -> Reply:
    """Return the answer of the first credential that knows the response."""
    for credential in credentials[:-1]:
        try:
            return executor.ask(credential, method, path)
        except UpstreamError as error:
            log.debug("upstream %s does not have it: %s", credential.name, ascii(str(error)[:500])[1:-1])
    return executor.ask(credentials[-1], method, path)


def _body(limit: int, memory: Memory) -> bytes:
    """Return the body of the request, which is counted while it comes."""
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        message = f"a body in {encoding:.100} is not read here; send it without Content-Encoding"
        raise RequestError(message, status=415, code="unsupported_encoding")
    coding = request.headers.get("Transfer-Encoding", "chunked").lower()
    if coding != "chunked":  # the server does not know where such a body ends
        message = f"the transfer coding {coding:.100} is not read here; send the body chunked, or with Content-Length"
        raise RequestError(message, status=501, code="unsupported_encoding", headers=CLOSE)
    size = request.content_length
    if size is not None and size > limit:
        raise _too_long(limit)
    try:
        body = _read(request.environ["wsgi.input"], limit, size, memory)
    except TimeoutError as exc:
        raise RequestError("the body did not come (setting request_timeout)", status=408, headers=CLOSE) from exc
    except OSError as exc:  # so gevent's server says both
        message = "the body is cut off, or it is not in valid chunks"
        raise RequestError(message, code="invalid_body", headers=CLOSE) from exc
    if len(body) > limit:
        raise _too_long(limit)
    return body


def _read(source: Any, limit: int, size: int | None, memory: Memory) -> bytes:
    if size is not None:
        with memory.request(size):
            whole: bytes = source.read(size)
            return whole
    pieces = bytearray()
    with ExitStack() as counted:
        while len(pieces) <= limit and (piece := source.read(PIECE_BYTES)):
            counted.enter_context(memory.request(len(piece)))
            pieces += piece
    return bytes(pieces)


def _too_long(limit: int) -> RequestError:
    message = f"the body is longer than {limit} bytes (setting max_message_bytes)"
    return RequestError(message, status=413, code="message_too_big")


def _answer(reply: Reply) -> Response:
    kind = reply.headers.get("content-type", "application/json")
    headers = carried({**passed_headers(reply.headers), "content-type": kind})
    return Response(reply.body, reply.status, headers)


def _json(value: object) -> Response:
    return Response(dumps(value), mimetype="application/json")


def _not_found(message: str, *, code: str, param: str) -> RequestError:
    return RequestError(message, status=404, code=code, param=param)


def _unknown_response(response_id: str) -> RequestError:
    message = f"Response with id '{response_id:.200}' not found."
    return _not_found(message, code="response_not_found", param="response_id")
