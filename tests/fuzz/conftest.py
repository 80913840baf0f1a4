"""
How long the property tests search.

The suite tries the same examples every time, so that it fails because of a change and not by chance.
WSGI_PROXY_FUZZ_EXAMPLES=10000 searches longer, and elsewhere every time.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

examples = os.environ.get("WSGI_PROXY_FUZZ_EXAMPLES")
settings.register_profile(
    "wsgi-proxy",
    max_examples=int(examples or 200),
    derandomize=examples is None,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("wsgi-proxy")
