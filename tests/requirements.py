"""What a test needs beyond Python: without it, it is skipped on a user's machine and fails where CI=true."""

from __future__ import annotations

import os

import pytest


def require(condition: bool, what: str) -> None:
    """
    Go on only if a test has what it needs.

    Args:
        condition: Whether it is there.
        what: What is needed and how to get it, such as `node (apt install nodejs)`; the reason that is shown.
    """
    if condition:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"missing: {what}", pytrace=False)
    pytest.skip(f"missing: {what}")
