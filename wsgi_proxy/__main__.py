"""`python -m wsgi_proxy` is the command `wsgi-proxy`."""

from __future__ import annotations

from .cli import main

main()
