"""
The protocol without I/O: bytes in, bytes out.

Nothing here imports gevent, flask, requests, socket, threading or time; clocks and ids are handed in. Every rule
of the wire that can be decided here is decided here.
"""
