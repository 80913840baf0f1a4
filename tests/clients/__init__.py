"""
Real clients hold real conversations through the proxy, over WebSocket and over HTTP.

| module | holds |
|---|---|
| `scenarios.py` | the clients and how each is run; every one asks two questions, and both need a tool |
| `programs.py` | runs a program with a time limit; says what is not installed |
| `codex.py` | drives Codex: `codex exec`, and `codex app-server` as editors do |
| `checks.py` | what the client must have said and what the upstream must have received |
| `conftest.py` | the proxies: one that takes WebSocket and HTTP, and one that refuses WebSocket |
| `e2e.py` | the table of `scripts/e2e` |
| `python/`, `node/` | one program for each SDK: base URL and model in, the assistant's answers out as a JSON array |
| `conversation.json` | the instructions, the questions and the tool of those programs |

The npm packages are pinned in `node/package.json`. There is no lock file: `npm ci` refuses the one that npm writes,
because both Codex releases bring their binaries under the same aliases.
"""
