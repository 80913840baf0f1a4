"""
A bridge from the OpenAI Responses API over WebSocket to servers that speak it only over HTTP.

A client opens one WebSocket on `/v1/responses` and sends turns; the proxy executes each turn against an
upstream's HTTP `/v1/responses`, reads its server-sent events, and writes each event back as one WebSocket text
message, byte for byte. The upstream keeps no state: the session's transcript lives here, with its connection.

Layers
------
Imports point down only; a test walks them.

`cli`
    The commands; no logic of its own.
`gateway`
    gevent, gevent-websocket and Flask: who may connect, the client's WebSocket and its greenlets, the HTTP routes, the
    gunicorn worker, and how it ends.
`upstream`
    requests, urllib3 and websockets: one request in, payload bytes out; foreign errors become ours here. Which
    credential takes a turn, and which one next if it fails.
`observe`
    What can be seen of sessions and turns: traces, log lines, timelines, metrics. Decides nothing.
`protocol`
    Pure. Bytes in, bytes out: messages, transcripts, server-sent events, turns, sessions, what a failure means.
`settings`, `errors`
    The tables of settings, and how their values are read; one tree of exceptions. Everything may import them.
`deployment`
    Files for systemd, nginx, HAProxy, logrotate and Grafana, made from the settings. Nothing imports it but `cli`.
`demo`
    An upstream, a conversation and a terminal client to try the proxy with. Nothing imports it but `cli`, `replay`, and
    `doctor` what clients are told.
`doctor`
    Asks an upstream, and a server of ours, step by step what they can do. Nothing imports it but `cli`.
`replay`
    What can be done again with a timeline: the client's messages sent, the upstreams' answers served. Nothing imports
    it but `cli`.

The life of a turn
------------------
1. `gateway/access.py` lets the client in, and `gateway/worker.py` upgrades its request and echoes `x-codex-turn-state`
   on the 101.
2. `gateway/relay.py` reads messages in one greenlet that never stops reading.
3. A message reaches `protocol/session.py`. It answers with the work that may start: a `Turn` to execute, or an
   `Answer`, which is frames that need no upstream (an error, a prewarm).
4. A lane greenlet takes the turn to `upstream/execution.py`. A credential is picked (`upstream/credentials.py`), and
   its upstream is asked by `upstream/http.py`: POST on a connection of `upstream/transport.py`, stream, payload bytes;
   or by `upstream/websocket.py`, if it speaks WebSocket itself.
5. `protocol/turn.py` makes frames of them; the frames of one read leave in one send. Until there is output they are
   held back, so that `upstream/failover.py` can have another credential take the turn if this one fails. After that
   an event that comes alone, and only has to be passed on, is passed on by `upstream/express.py` in the event loop.
6. A terminal event ends the turn, and the session commits the new transcript. Anything else commits nothing.
7. The client leaves: the greenlets end and the upstream response is closed at once.

All along, whoever does something tells the turn's trace (`observe/turn_trace.py`), of which its line in the log, the
counters and the status page are made, and the session's journal, if somebody wants to know what was said.

Glossary
--------
client, upstream
    The WebSocket peer; the HTTP server that we call.
connection, session, lane
    One WebSocket transport; our state for it; one queue of turns inside it (`stream_id`, or the default lane).
message, frame
    One complete WebSocket message from the client; one JSON text that we write to it.
request, turn
    The JSON body sent upstream; one accepted message through its last frame.
transcript, output
    The `input` items that a stateless upstream needs to continue; `response.output` of a finished turn.
trace, timeline
    What is known of a session or a turn, while it runs and afterwards; the file of one session with all that was said.
event, payload, terminal event
    One Responses event; its raw bytes; the event that ends a turn.
credential, pinned
    A named upstream identity, which is one key of one upstream; the one that had the session's last turn.
timeline, recording
    A file of all that happened in a session; the session put together from it again.
rest, cooldown
    A time in which a credential gets no turns because of a failure.
incremental input
    Only the new items plus `previous_response_id`.
prewarm
    A `generate: false` turn, answered locally.
timeline
    The file in which all is that was sent in one session; a journal writes it while it happens.
dialect
    v2 (standard) or v1 (reference): which rules a client expects.
"""

__version__ = "0.1.0"
