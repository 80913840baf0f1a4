"""
Plays every table of faults and prints it.

Usage: `python -m tests.faults [WORD...]`; only faults whose name has one of the words, by default all.
The exit status is 0 if every outcome is as it must be.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .table import printed

TABLES = ("upstream", "client", "autobahn")


def main(words: Sequence[str]) -> int:
    """Play the cases that are asked for and return the exit status."""
    results = [result for name in TABLES for result in printed(name, words)]
    print(f"\n{results.count(True)} pass, {results.count(False)} fail")
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
