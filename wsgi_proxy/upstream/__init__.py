"""Executors: one request in, the payload bytes of its events out. requests and WebSocket clients live here."""
