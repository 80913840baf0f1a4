"""
What the proxy costs, measured so that anybody can repeat it.

`scripts/bench` runs it; `scripts/bench --help` says how.

| module | is |
|---|---|
| `answers` | what the upstream answers: a plan, which the client knows, too |
| `upstream` | the upstream, a process of its own: writes bytes that were made before |
| `client` | the client, a process of its own: does one job, tells what it measured |
| `peer` | a connection of the client, and its loop: counts events by searching bytes |
| `load`, `loads`, `held` | what the client does: turns, handshakes; what is held: transcripts, idle sessions |
| `checks` | whether what comes is what the upstream wrote |
| `naive` | the bridge that one would write in 40 lines, to compare with |
| `frames` | WebSocket frames, and the client's side of permessage-deflate |
| `subjects`, `litellm` | what is measured: the upstream alone, a TCP relay, the naive bridge, the proxy; and LiteLLM |
| `workload`, `workloads`, `jobs` | what a workload is; the table of them; what the client does at their points |
| `measure` | CPU time and memory of processes, percentiles, medians |
| `bench` | runs the table: every subject in turn, again and again |
| `targets` | what must be reached, and whether it is |
| `report`, `summary` | the tables for people, the JSON for programs; what of it the README has |
| `curves`, `svg` | the figures, and how they are drawn |
"""
