"""The files for other programs: their text, and what those programs say to it."""
