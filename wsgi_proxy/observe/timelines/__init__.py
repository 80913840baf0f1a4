"""Timelines: files with what was said in a session. How they are written, kept small, read and shown."""
