"""
A client that costs as little as it can, for `python -m tests.benchmarks.client`.

It reads a job from standard input, as JSON, and writes what it measured to standard output.
"""

from __future__ import annotations

import gc
import json
import resource
import sys

from .held import Idle, Transcript
from .loads import Handshakes, Paced, Turns
from .peer import Failure

LOADS = {"turns": Turns, "paced": Paced, "connect": Handshakes, "idle": Idle, "transcript": Transcript}


def main() -> int:
    """Do the job; return the exit status."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    job = json.load(sys.stdin)
    load = LOADS[job["load"]](job)
    gc.disable()
    try:
        print(json.dumps(load.run()))
    except Failure as exc:
        print(json.dumps({"failed": str(exc)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
