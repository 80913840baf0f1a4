"""
A long run against a real server: what must never happen, however long it works and whatever happens to its workers.

`scripts/soak` runs it; `scripts/soak --help` says how.

| module | is |
|---|---|
| `upstream` | the upstream, a process of its own: keeps nothing, checks every transcript, misbehaves on request |
| `application` | the proxy's application, which tells which worker answers |
| `fleet` | the server's processes: killed, reloaded, measured |
| `memory` | what processes hold and use |
| `wire` | a WebSocket on a gevent socket |
| `conversation` | what a client knows, and says |
| `session` | a client, which knows what it is owed |
| `tally` | what was counted, what was promised |
| `idle` | many clients that do nothing |
"""
