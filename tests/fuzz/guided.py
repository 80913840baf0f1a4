"""
Run one target under a coverage-guided fuzzer: `python -m tests.fuzz.guided TARGET SECONDS FOLDER`.

The folder keeps what it has learned, and an input that fails: its bytes become a seed in `corpus`, and a case of a test
with the fix.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

INSTRUMENTED = ["wsgi_proxy", "websockets"]


def main() -> None:
    """Fuzz; ends the process, with a status other than 0 if something was found."""
    name, seconds, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    with atheris.instrument_imports(include=INSTRUMENTED):
        from .targets import TARGETS, seeds
    learned = folder / name
    learned.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(name)):
        (learned / f"seed-{number}").write_bytes(seed)
    limits = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=4096"]
    output = [f"-artifact_prefix={folder / name}-", "-verbosity=0", "-print_final_stats=1"]
    atheris.Setup([name, *limits, *output, str(learned)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
