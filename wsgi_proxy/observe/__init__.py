"""
What can be seen of the proxy while it works, and afterwards.

Whoever serves a session or a turn tells a *trace* what happens to it (`session_trace.py`, `turn_trace.py`). The
`Observer` of a worker knows all traces, and tells its listeners when something begins or ends: for a line in the log
(`lines.py`, `records.py`), for counters. What is said on the way, with its payload, is for a *journal* (`journal.py`),
of which there are two: one writes the beginning of each payload to the log (`previews.py`), one a file for each
session, the timeline (`timelines`). Nothing here decides anything, and nothing here may fail a turn.
"""
