"""Keeps the directory of the timelines within its bounds. Several processes may do so at the same time."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .reader import NAME

log = logging.getLogger(__name__)

# One in so many bytes is kept free for what is written until the next look.
SHARE = 8


class _Found(NamedTuple):
    changed: float
    path: str
    size: int


def tidy(directory: Path, *, age: float, most: int) -> bool:
    """
    Delete timelines that are too old; and the oldest, if all are too large. None is deleted whose session runs.

    Args:
        directory: Other files in it are left alone.
        age: Seconds since the last line was written; 0 for no limit.
        most: Bytes of all of them; of these, one in `SHARE` is left free if anything has to go.

    Returns:
        Whether those of running sessions alone are larger.
    """
    found = sorted(_files_in(directory))
    now = time.time()
    total = sum(file.size for file in found)
    goal = most if total <= most else most - most // SHARE
    for file in found:
        too_old = 0 < age < now - file.changed
        if (too_old or total > goal) and _deleted(file.path):
            total -= file.size
    return total > most


def _files_in(directory: Path) -> list[_Found]:
    found = []
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with suppress(OSError):  # somebody else has deleted it
                if NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    found.append(_Found(status.st_mtime, entry.path, status.st_size))
    return found


def _deleted(path: str) -> bool:
    """Delete a file whose session does not run; tell if it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)  # noqa: PTH108 - of many files
    except FileNotFoundError:
        return True
    except OSError:  # its writer has a lock, or it may not be deleted
        return False
    finally:
        os.close(descriptor)
    return True
