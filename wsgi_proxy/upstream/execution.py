"""
Executing turns: what one client session has with the upstreams.

A turn goes to the credential that its session used last, if that can take it, over WebSocket where the upstream speaks
that and over HTTP otherwise, and to others if it fails before the client has seen anything of it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TypeVar

from ..errors import ClosedEarly, CredentialError, UpstreamError
from ..observe.session_trace import detached_turn
from ..observe.turn_trace import TurnTrace
from ..protocol.failure import (
    Failure,
    failed_response,
    failure_of,
    reported_failure,
)
from ..protocol.messages import create_message
from ..protocol.passage import Passage
from ..protocol.signals import not_found
from ..protocol.turn import Turn
from ..protocol.wire import (
    Fields,
    Malformed,
    split_object,
    text_of,
)
from .credentials import Credential
from .express import Send
from .failover import Attempts, Deliver, Opening, Schedule, Work
from .headers import authorization, without_secrets
from .http import Reply
from .stream import EventStream
from .upstreams import Upstreams
from .websocket import (
    Events,
    UpgradeRefused,
    UpstreamSocket,
)

log = logging.getLogger(__name__)

AnyWork = TypeVar("AnyWork", bound=Work)


class Executor:
    """
    What one client session has with the upstreams; a client without a session has one for each of its requests.

    Args:
        upstreams: Those of the worker.
        name: Of the session, for the log.
        headers: Of the client's request: names in lower case, values as latin-1 text.
        schedule: Calls a function in so many seconds, if it is not killed before.
        asker: The name of the client's key; None where no keys are configured.
        send: Sends a frame to the client of a session without waiting, if that can be; see `Express`.

    Attributes:
        pinned: The credential of the last turn that succeeded, which is preferred for the next.
    """

    def __init__(
        self,
        upstreams: Upstreams,
        *,
        name: str,
        headers: Mapping[str, str],
        schedule: Schedule,
        asker: str | None = None,
        send: Send | None = None,
    ) -> None:
        self.pinned: Credential | None = None
        self._upstreams = upstreams
        self._credentials = upstreams.credentials
        self._name = name
        self._client = headers
        self._schedule = schedule
        self._asker = asker
        self._send = send
        # Where the client's own key goes upstream, what is known of that key is known of this client only.
        own = authorization(headers, None).get("authorization", "")
        self._owner = hashlib.sha256(own.encode("latin-1")).hexdigest() if own else ""
        self._headers: dict[str, dict[str, str]] = {}
        self._sockets: dict[str, UpstreamSocket] = {}

    @property
    def has_own_key(self) -> bool:
        """Whether the client sent a key of its own, which goes upstream where none is configured."""
        return bool(self._owner)

    def is_of_others(self, response_id: str) -> bool:
        """
        Tell if a response is not the client's, whatever an upstream would say that keeps those of all clients.

        With several client keys, one that this worker does not know may be another's.
        """
        made = self._credentials.maker_of(response_id)
        return made.asker != self._asker if made else len(self._upstreams.settings.keys) > 1

    def execute(self, turn: Turn, deliver: Deliver, trace: TurnTrace | None = None) -> bool:
        """
        Have an upstream carry out a turn.

        Args:
            turn: Is over afterwards, if nothing is raised.
            deliver: Sends frames to the client; what it raises ends the turn.
            trace: Is told what happens.

        Returns:
            Whether it was carried out; False for a prewarm for which there is only HTTP, where it would generate.

        Raises:
            RequestError: Nobody here knows what the turn continues from.
            CredentialError: Nobody can take the turn.
            UpstreamError: It failed, and will not be tried again.
        """
        unknown_here = turn.transcript is None and turn.previous is None
        if turn.previous_id and unknown_here and self.is_of_others(turn.previous_id):
            raise not_found(turn.previous_id)
        try:
            return self._carry_out(turn, deliver, self._stream_turn, trace)
        except CredentialError:
            if turn.prewarm:
                return False  # it needs nobody
            raise

    def stream(self, passage: Passage, deliver: Deliver, trace: TurnTrace | None = None) -> None:
        """
        Have an upstream answer a client's HTTP request with events; as `execute`, but always over HTTP.

        Raises:
            RequestError: The upstream did not know what is continued.
            CredentialError, UpstreamError: As for `execute`.
        """
        self._carry_out(passage, deliver, self._stream_passage, trace)

    def fetch(self, passage: Passage, path: str, trace: TurnTrace | None = None) -> Reply:
        """
        Have an upstream answer a client's HTTP request with one document.

        Args:
            passage: The request.
            path: Where it goes, below the base URL.
            trace: Is told what happens.

        Raises:
            RequestError: The upstream did not know what is continued.
            CredentialError, UpstreamError: As for `execute`.
        """
        attempts = self._attempts(passage, trace)
        attempts.trace.follow(passage)
        while True:
            credential = attempts.credential
            http = self._upstreams.http(credential)
            target = _target(credential, passage)
            try:
                with credential.busy():
                    body = passage.request_for(target, http.takes_incremental_input)
                    reply = http.fetch("POST", path, body, self.headers_for(credential), attempts.trace)
            except UpstreamError as error:
                if not attempts.failed(failure_of(error, target, time.time()), delivered=False):
                    raise
                continue
            fields = _fields(reply)
            passage.take_document(fields, reply.body, reply.headers)
            if text_of(fields.get("status")) != "failed":
                if text_of(fields.get("object")) == "response":
                    passage.verify(fields)
                self._succeeded(passage, attempts, text_of(fields.get("id")))
                return reply
            reply = reply._replace(body=self._without_secrets(reply.body, credential))
            passage.gave_up = reply.body
            failure = failed_response(reply.body, target)
            if not attempts.failed(failure, delivered=False):
                return reply

    def ask(self, credential: Credential, method: str, path: str) -> Reply:
        """
        Ask one upstream for one document.

        Raises:
            UpstreamError: It did not answer with a status of 2xx.
        """
        return self._upstreams.http(credential).fetch(method, path, None, self.headers_for(credential))

    def headers_for(self, credential: Credential) -> dict[str, str]:
        """Return the headers of upstream requests with a credential; they are the same for all of them."""
        headers = self._headers.get(credential.name)
        if headers is None:
            headers = self._upstreams.http(credential).headers_for(self._client, credential.key)
            self._headers[credential.name] = headers
        return headers

    def _without_secrets(self, told: bytes, credential: Credential) -> bytes:
        """Return the error of an upstream without the key that it may repeat in it."""
        return without_secrets(told, self.headers_for(credential), credential.upstream.headers)

    def close(self) -> None:
        """Leave the upstreams' WebSockets."""
        while self._sockets:
            self._sockets.popitem()[1].close()

    def _carry_out(
        self,
        work: AnyWork,
        deliver: Deliver,
        stream: Callable[[AnyWork, Attempts, Opening], None],
        trace: TurnTrace | None,
    ) -> bool:
        attempts = self._attempts(work, trace)
        attempts.trace.follow(work)
        while True:
            credential = attempts.credential
            hold = self._upstreams.settings.hold_time if attempts.may_go_on else None
            opening = Opening(work, deliver, self._schedule, hold)
            error: UpstreamError | None = None
            try:
                with credential.busy():
                    stream(work, attempts, opening)
            except _OnlyOverHTTP:
                return False
            except UpstreamError as exc:
                error = exc
            finally:
                opening.close()
            failure = _failure(work, credential, error)
            if failure is None:
                return True
            if failure.may_differ_elsewhere and self.pinned is credential:
                self.pinned = None
            if attempts.failed(failure, delivered=opening.delivered):
                work.restart()
                continue
            opening.release()
            if error is None:
                return True
            try:
                raise error
            finally:
                error = None  # or its traceback, which holds what is at hand here, would hold itself

    def _attempts(self, work: Work, trace: TurnTrace | None) -> Attempts:
        made = self._credentials.maker_of(work.previous_id) if work.previous_id else None
        maker = made.credential if made else None
        only = maker if work.needs_memory else None
        if only and work.model not in only.upstream.models:
            raise not_found(work.previous_id or "")  # who serves the model knows nothing of it
        return Attempts(
            self._name,
            work.model,
            self._credentials,
            self._upstreams.settings,
            trace=trace or detached_turn(work.model),
            owner=self._owner,
            prefer=maker or self.pinned,
            only=only,
        )

    def _stream_turn(self, turn: Turn, attempts: Attempts, opening: Opening) -> None:
        credential = attempts.credential
        socket = self._socket_for(credential)
        if socket:
            try:
                self._forward(turn, self._over_websocket(turn, attempts, socket), attempts, opening)
            except UpgradeRefused as refusal:
                log.debug("session %s: %s; the turn goes over HTTP", self._name, refusal)
            else:
                return
        if turn.prewarm:
            raise _OnlyOverHTTP
        # Requests may be large, so nothing here holds on to them.
        http = self._upstreams.http(credential)
        target = _target(credential, turn)
        execution = http.execute(
            turn.request_for(credential.name, http.takes_incremental_input, model=target),
            self.headers_for(credential),
            attempts.trace,
        )
        self._forward(turn, execution, attempts, opening)

    def _stream_passage(self, passage: Passage, attempts: Attempts, opening: Opening) -> None:
        credential = attempts.credential
        http = self._upstreams.http(credential)
        target = _target(credential, passage)
        execution = http.execute(
            passage.request_for(target, http.takes_incremental_input), self.headers_for(credential), attempts.trace
        )
        self._forward(passage, execution, attempts, opening)

    def _over_websocket(self, turn: Turn, attempts: Attempts, socket: UpstreamSocket) -> AbstractContextManager[Events]:
        target = _target(attempts.credential, turn)

        def message_for(connection: str) -> bytes:
            takes_incremental = socket.takes_incremental_input
            request = turn.request_for(connection, takes_incremental, model=target, by_connection=True)
            message = create_message(request, generate=not turn.prewarm)
            attempts.trace.asked("MESSAGE", socket.url, socket.headers, message)
            return message

        return socket.execute(message_for, turn.previous.upstream if turn.previous else None)

    def _forward(
        self,
        work: Turn | Passage,
        execution: AbstractContextManager[Events | EventStream],
        attempts: Attempts,
        opening: Opening,
    ) -> None:
        trace, express = attempts.trace, False
        with execution as events:
            work.upstream_headers = events.headers
            if isinstance(events, Events):
                trace.answered(None, events.headers)
            for payloads in events:
                came_at = time.monotonic()
                frames = work.receive_all(payloads)
                over = work.over
                if over:
                    self._pass_end(work, attempts, frames)
                if frames:
                    opening.pass_on(frames)
                trace.passed(work, payloads, frames, came_at)
                if over:
                    if work.gave_up is None:
                        trace.succeeded(work)  # before the rest is read, which takes time
                    opening.close()  # if it failed, nothing may go while it is not decided what becomes of it
                    _drain(events, work, opening, trace)
                    return
                if opening.is_open and not express:
                    express = True
                    if self._send and isinstance(work, Turn) and isinstance(events, EventStream):
                        events.let_pass(work, self._send, trace)
        raise ClosedEarly("the upstream ended the stream")

    def _pass_end(self, work: Turn | Passage, attempts: Attempts, frames: list[bytes]) -> None:
        """Do what has to be done before the last frame goes."""
        if work.gave_up is not None:  # in the last of them
            work.gave_up, frames[-1] = (
                self._without_secrets(told, attempts.credential) for told in (work.gave_up, frames[-1])
            )
        else:
            # A client that is quick may continue from it while the rest is read.
            self._succeeded(work, attempts, work.response_id)

    def _socket_for(self, credential: Credential) -> UpstreamSocket | None:
        socket = self._sockets.get(credential.name)
        upstream = self._upstreams.websocket(credential)
        if socket is None and upstream:
            socket = self._sockets[credential.name] = upstream.session(self._client)
        return socket

    def _succeeded(self, work: Work, attempts: Attempts, response_id: str | None) -> None:
        self.pinned = attempts.credential
        self._credentials.succeeded(attempts.credential, work.model, attempts.begun, self._owner)
        if response_id:
            self._credentials.remember(response_id, attempts.credential, self._asker)


class _OnlyOverHTTP(Exception):
    """A prewarm would generate over HTTP."""


def _drain(events: Events | EventStream, work: Turn | Passage, opening: Opening, trace: TurnTrace) -> None:
    """Read the rest; a client that knows how its work ended, and leaves meanwhile, cancels nothing any more."""
    try:
        events.drain()
    except BaseException:
        if opening.delivered and work.gave_up is not None:
            trace.gave_up(work)
        raise


def _target(credential: Credential, work: Work) -> str:
    """Return how an upstream calls the model; it serves it, or would not have been picked."""
    return credential.upstream.models.target(work.model) or work.model


def _failure(work: Work, credential: Credential, error: UpstreamError | None) -> Failure | None:
    """Return why an attempt failed, None if it did not."""
    if error:
        return failure_of(error, _target(credential, work), time.time())
    return reported_failure(work.gave_up, _target(credential, work), time.time()) if work.gave_up is not None else None


def _fields(reply: Reply) -> Fields:
    """Return the fields of a document; none if it is no JSON object."""
    try:
        return split_object(reply.body)
    except Malformed:
        return {}
