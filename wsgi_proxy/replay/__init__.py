"""
What can be done again with a timeline: its client's messages sent, its upstreams' answers served.

`recording.py` puts a session together from the lines of its file. `replaying.py` is a replay from beginning to end:
`player.py` and `http_player.py` are the client, on the ways to the proxy in `wires.py`; what comes is compared with
what was recorded (`story.py`), and `report.py` says how that goes. `shelf.py` finds the recorded answer to a request,
and `upstream.py` gives it.
"""
