"""
The embedded upstream, the demonstration conversation and the terminal client.

The upstream keeps no conversation: it answers what the `input` of one request says, the same way every time.

| module | does |
|---|---|
| `samples` | makes plausible values for a JSON schema |
| `script` | decides what the upstream answers |
| `events` | turns that answer into the events of the Responses API |
| `modes` | breaks the answer on purpose |
| `records` | remembers what was received |
| `answers` | answers one create request: refused, as one object, or as a stream |
| `upstream` | serves all this over HTTP |
| `process` | runs the upstream and the proxy as processes |
| `client` | sends turns over a WebSocket and receives their events |
| `conversation` | holds three turns through both and prints what crossed the wire |
| `configurations` | prints what other clients need |
| `chat`, `screen` | talk to a model in a terminal |
"""
