"""Executors: one request in, the payload bytes of its events out. requests lives here."""
