"""How long the property tests search. WSGI_PROXY_FUZZ_EXAMPLES=10000 makes them search longer."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "wsgi-proxy",
    max_examples=int(os.environ.get("WSGI_PROXY_FUZZ_EXAMPLES", "200")),
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("wsgi-proxy")
