"""The keys file: a line `NAME:DIGEST` for each client key. The keys themselves are nowhere but with the clients."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import SettingsError
from .values import read_digest, read_name

PREFIX = "wp-"


def digest_of(key: str) -> str:
    """Return the SHA-256 digest of a key, in hexadecimal digits."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def read(path: Path) -> dict[str, str]:
    """
    Return the digests by name; blank lines and those that begin with `#` say nothing.

    Raises:
        SettingsError: The file cannot be read, or a line is not `NAME:DIGEST`; the message names file and line.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as exc:
        message = f"The keys file {path} does not exist; `wsgi-proxy keys add NAME --file {path}` makes it."
        raise SettingsError(message) from exc
    except (OSError, ValueError) as exc:
        raise SettingsError(f"The keys file {path} cannot be read: {getattr(exc, 'strerror', 'not UTF-8')}.") from exc
    digests: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, digest = _parsed(line, f"file {path}, line {number}")
        if name in digests:
            raise SettingsError(f"file {path}, line {number}: the name {name} is there already.")
        digests[name] = digest
    return digests


def _parsed(line: str, source: str) -> tuple[str, str]:
    name, _, digest = line.partition(":")
    try:
        return read_name(name), read_digest(digest)
    except ValueError:
        # The line itself is not shown: somebody may have written a key there.
        message = f"{source}: a line is NAME:DIGEST, as `wsgi-proxy keys add NAME` writes it."
        raise SettingsError(message) from None


def warning_about(path: Path) -> str | None:
    """Return what to do if other users can read or change the file."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    if not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return None
    return f"other users can open the keys file {path}; close it with: chmod 600 {path}"


def add(path: Path, name: str) -> str:
    """
    Make a key and write its digest.

    Returns:
        The key, which cannot be had again.

    Raises:
        SettingsError: The name is not acceptable or taken, or the file cannot be written.
    """
    try:
        name = read_name(name)
    except ValueError:
        message = f"{name!r} is not accepted as a name, give 1 to 64 characters from A-Z a-z 0-9 _ . @ -."
        raise SettingsError(message) from None
    key = PREFIX + secrets.token_urlsafe(32)
    with _locked(path, create=True):
        if name in read(path):
            hint = f"`wsgi-proxy keys remove {name} --file {path}` takes it out"
            raise SettingsError(f"The name {name} is in {path} already; {hint}.")
        text = path.read_text("utf-8")
        separator = "" if not text or text.endswith("\n") else "\n"
        _replace(path, f"{text}{separator}{name}:{digest_of(key)}\n")
    return key


def remove(path: Path, name: str) -> None:
    """
    Take a key out.

    Raises:
        SettingsError: There is none of this name, or the file cannot be written.
    """
    with _locked(path):
        if name not in read(path):
            raise SettingsError(f"There is no key named {name} in {path}.")
        lines = path.read_text("utf-8").splitlines(keepends=True)
        _replace(path, "".join(line for line in lines if line.partition(":")[0].strip() != name))


@contextmanager
def _locked(path: Path, *, create: bool = False) -> Iterator[None]:
    """Keep other commands out while a file is read and written again; the lock is that of its folder."""
    parent = path.resolve().parent
    try:
        folder = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as exc:
        raise SettingsError(f"The folder {parent} cannot be opened: {exc.strerror}.") from exc
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if create and not path.exists():
            _replace(path, "")
        yield
    except OSError as exc:
        raise SettingsError(f"The keys file {path} cannot be written: {exc.strerror}.") from exc
    finally:
        os.close(folder)


def _replace(path: Path, text: str) -> None:
    """Write a file so that readers see it before or after, never in between; its mode and owner stay."""
    target = path.resolve()
    before = target.stat() if target.exists() else None
    new = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if before:
            new.chmod(stat.S_IMODE(before.st_mode))
            if os.geteuid() == 0:
                os.chown(new, before.st_uid, before.st_gid)
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)  # it is still there only if something failed
