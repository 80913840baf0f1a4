from __future__ import annotations

import os
import subprocess
import sys

import pytest

# In a process of its own, for that module patches the standard library.
BEGIN = """
from wsgi_proxy.gateway import production
production.forget_who_began_whom()
import gevent
print(bool(gevent.spawn(int).spawning_stack))
"""


@pytest.mark.parametrize(("said", "kept"), [({}, "False"), ({"GEVENT_TRACK_GREENLET_TREE": "1"}, "True")])
def test_greenlets_do_not_know_who_began_them_unless_the_operator_wants_it(said: dict[str, str], kept: str) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "GEVENT_TRACK_GREENLET_TREE"}
    done = subprocess.run(
        [sys.executable, "-c", BEGIN], env={**environ, **said}, capture_output=True, text=True, timeout=60, check=True
    )
    assert kept == done.stdout.strip()
