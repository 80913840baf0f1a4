"""
The values of settings: how they are read, what is accepted, how they are shown.

A value comes as text from the environment and the command line, or as a TOML value from the file; a `Kind` reads both.
A reader that refuses a value raises `ValueError`; a `Hint` says what may be meant. The text of any other ValueError is
never shown, because it may quote a password.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .addresses import base_url_meant
from .pem import fault_in

SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
DURATIONS = {"": 1.0, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
SHORTEST, LONGEST = 0.001, 86400.0  # seconds
AGES = {**DURATIONS, "d": 86400.0}
OLDEST = 3650 * 86400.0  # seconds
TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
# What `sha256sum` says of an empty file: the variable that should have held the key was not set.
DIGEST_OF_NOTHING = hashlib.sha256(b"").hexdigest()
# Headers that say how a message is framed, or that are the executors' own.
FRAMING = frozenset(
    (
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "openai-beta",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
# "userinfo = *( unreserved / pct-encoded / sub-delims / ":" )", RFC 3986, section 3.2.1; a colon ends the user.
_USER = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"


class Hint(ValueError):
    """A value is refused; the text is a question that names the value that may be meant."""


@dataclass(frozen=True)
class Kind:
    """
    A kind of value.

    Args:
        read: Makes the value from text or a TOML value; raises ValueError.
        accepted: What is accepted, in words that follow "give ".
        metavar: How the value is called in the help of a command.
        show: Makes text that `read` accepts from a value.
    """

    read: Callable[[object], Any]
    accepted: str
    metavar: str
    show: Callable[[Any], str] = str


def read_text(value: object) -> str:
    """Return text without the blanks around it; ValueError for other types, blank text and control characters."""
    if isinstance(value, str) and (text := value.strip()) and text.isprintable():
        return text
    raise ValueError


def _quantity(value: object, units: dict[str, Any]) -> Any:
    """Return a number, or text such as `64MiB`, in the base unit."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)", read_text(value))
    if found is None or found[2].lower() not in units:
        raise ValueError
    return (float if "." in found[1] else int)(found[1]) * units[found[2].lower()]


def read_size(value: object) -> int:
    """Return a number of bytes, at least 1, from a whole number or text such as `64MiB`."""
    size = _quantity(value, SIZES)
    if not 1 <= size < 2**63 or size != int(size):
        raise ValueError
    return int(size)


def show_size(size: int) -> str:
    """Return a number of bytes in the largest binary unit that divides it."""
    unit = next((unit for unit in ("GiB", "MiB", "KiB") if size % SIZES[unit.lower()] == 0), "B")
    return f"{size // SIZES[unit.lower()]}{unit}"


def read_duration(value: object) -> float:
    """Return seconds from a number of seconds or text such as `250ms`, `90s`, `10min`, `1h`."""
    seconds = _quantity(value, DURATIONS)
    if not SHORTEST <= seconds <= LONGEST:
        raise ValueError
    return float(seconds)


def read_rest(value: object) -> float:
    """Return seconds as `read_duration` does, or 0 for none."""
    return 0.0 if _quantity(value, DURATIONS) == 0 else read_duration(value)


def show_duration(seconds: float, units: tuple[str, ...] = ("h", "min")) -> str:
    """Return a number of seconds in the largest unit that divides it."""
    unit = next((unit for unit in units if seconds and seconds % AGES[unit] == 0), "s")
    return f"{seconds / AGES[unit]:.15g}{unit}"


def read_age(value: object) -> float:
    """Return seconds from a number of seconds or text such as `90s`, `12h`, `7d`; 0 for none."""
    seconds = _quantity(value, AGES)
    if seconds != 0 and not SHORTEST <= seconds <= OLDEST:
        raise ValueError
    return float(seconds)


def show_age(seconds: float) -> str:
    """Return a number of seconds as `show_duration` does, or in days."""
    return show_duration(seconds, ("d", "h", "min"))


def read_bind(value: object) -> str:
    """Return `HOST:PORT`; an IPv6 address is in brackets, and port 0 lets the system choose."""
    host, _, port = read_text(value).rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError
    if host.startswith("[") and host.endswith("]"):
        ipaddress.IPv6Address(host[1:-1])
    elif not re.fullmatch(r"[A-Za-z0-9._-]+", host):
        raise ValueError
    return f"{host}:{int(port)}"


def read_base_url(value: object) -> str:
    """Return an upstream's URL, which ends in `/v1` and has no trailing slash; the hint is the URL that was meant."""
    text = read_text(value)
    meant = base_url_meant(text)
    if text.rstrip("/") != meant:
        raise Hint(f"did you mean {meant}?")
    return meant


def read_proxy_url(value: object) -> str:
    """Return the URL of an HTTP proxy, which may hold a user and password."""
    text = read_text(value)
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.port == 0 or " " in text:
        raise ValueError
    if url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError
    user, at, _ = url.netloc.rpartition("@")
    if at and ":" not in user:
        raise Hint("a user needs a password, as in USER:PASSWORD@")
    if at and not re.fullmatch(rf"{_USER}+:(?:{_USER}|:)*", user):
        raise Hint("in USER and PASSWORD write other characters than A-Z a-z 0-9 - . _ ~ ! $ & ' ( ) * + , ; = as %XX")
    return text.rstrip("/")


def read_key(value: object) -> str:
    """Return a key that fits in an HTTP header."""
    text = read_text(value)
    if not text.isascii() or " " in text:
        raise ValueError
    return text


def parse_bool(text: str) -> bool | None:
    """Return what Go's `strconv.ParseBool` makes of a text, None where that is an error."""
    return True if text in TRUE else False if text in FALSE else None


def read_list(value: object) -> tuple[str, ...]:
    """Return texts from a list of them, or from one text that has commas between them."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not parts:
        raise ValueError
    return tuple(read_text(part) for part in parts)


def read_origin(value: object) -> str:
    """Return an origin as browsers send it: scheme, host, and the port unless it is the scheme's own."""
    text = read_text(value).lower()
    url = urlsplit(text)
    if text == "null":
        return text
    if not url.scheme or not url.hostname or url.port == 0 or re.search(r"[@*\s]", text):
        raise ValueError
    port = {"http": ":80", "https": ":443"}.get(url.scheme, "")
    meant = f"{url.scheme}://{url.netloc.removesuffix(port) if port else url.netloc}"
    if text.rstrip("/") != meant:
        raise Hint(f"did you mean {meant}?")
    return meant


def read_origins(value: object) -> tuple[str, ...]:
    """Return origins from a list, or from one text that has commas between them."""
    return tuple(read_origin(part) for part in read_list(value))


def read_keys(value: object) -> tuple[str, ...]:
    """Return keys from a list of them."""
    if not isinstance(value, list) or not value:
        raise ValueError
    keys = tuple(read_key(part) for part in value)
    if len(set(keys)) < len(keys):
        raise Hint("one of them is there twice")
    return keys


def read_named_keys(value: object) -> tuple[tuple[str, str], ...]:
    """Return names and keys from text such as `alice:KEY, bob:KEY`."""
    pairs = [part.partition(":") for part in read_list(value)]
    named = tuple((read_name(name), read_key(key)) for name, _, key in pairs)
    if len(dict(named)) < len(named):
        raise Hint("one of the names is there twice")
    return named


def read_name(value: object) -> str:
    """Return a name that may stand in a log line and in the keys file."""
    text = read_text(value)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", text):
        raise ValueError
    return text


def read_digest(value: object) -> str:
    """Return a SHA-256 digest in hexadecimal digits."""
    text = read_text(value).lower()
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError
    if text == DIGEST_OF_NOTHING:
        raise Hint("this one is of an empty text")
    return text


def read_headers(value: object) -> dict[str, str]:
    """Return header fields that may be sent, names in lower case."""
    if not isinstance(value, dict):
        raise ValueError
    headers: dict[str, str] = {}
    for name, text in value.items():
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
            raise Hint(f"{name!r} is no name of a header")
        if name.lower() in FRAMING or name.lower().startswith("sec-websocket-"):
            raise Hint(f"{name} is set by the proxy itself")
        if not isinstance(text, str) or not re.fullmatch(r"[\x20-\x7e\xa0-\xff]*", text) or name.lower() in headers:
            raise Hint(f"the value of {name} is no text that a header can carry, or is there twice")
        headers[name.lower()] = text.strip()
    return headers


def read_path(value: object) -> Path:
    """Return a path; `~` is the home directory."""
    path = Path(read_text(value))
    try:
        return path.expanduser()
    except RuntimeError:
        raise Hint("there is no such home directory") from None


def read_certificates(value: object) -> Path:
    """Return the path of a file that holds certificates in PEM form."""
    path = read_path(value)
    try:
        text = path.read_text("utf-8-sig", errors="replace")
    except OSError as exc:
        raise Hint(f"it cannot be read: {exc.strerror}") from None
    if fault := fault_in(text):
        raise Hint(fault)
    return path


def read_flag(value: object) -> bool:
    """Return a boolean from a boolean or text."""
    parsed = value if isinstance(value, bool) else parse_bool(read_text(value))
    if parsed is None:
        raise ValueError
    return parsed


def read_table(value: object) -> dict[str, object]:
    """Return a TOML table."""
    if not isinstance(value, dict):
        raise ValueError
    return value


def whole(least: int, most: int = 1_000_000) -> Kind:
    """Return the kind of whole numbers from `least` to `most`."""

    def read(value: object) -> int:
        number = _quantity(value, {"": 1})
        if not isinstance(number, int) or not least <= number <= most:
            raise ValueError
        return number

    return Kind(read, f"a whole number from {least} to {most}", "N")


def choice(*words: str) -> Kind:
    """Return the kind that is one of a few words, in any case."""

    def read(value: object) -> str:
        word = read_text(value).lower()
        if word not in words:
            raise ValueError
        return word

    return Kind(read, f"{', '.join(words[:-1])} or {words[-1]}", "|".join(words))


def masked(url: str) -> str:
    """Return a URL, or what is meant as one, without its user, password and query, which may be secret."""
    without_user = re.sub(r"^((?:[A-Za-z][A-Za-z0-9+.-]*:)?/+)?.*@", r"\1***@", url, flags=re.DOTALL)
    return re.sub(r"\?.*", "?***", without_user, flags=re.DOTALL)


def _masked_all(value: object) -> object:
    """Return a value with every text in it masked."""
    if isinstance(value, list):
        return [_masked_all(item) for item in value]
    if isinstance(value, dict):
        return {masked(name): _masked_all(item) for name, item in value.items()}
    return masked(value) if isinstance(value, str) else value


def quoted(value: object) -> str:
    """Return a refused value as it may be shown in an error."""
    shown = _masked_all(value)
    text = repr(shown) if isinstance(shown, str) else str(shown)
    return text if len(text) <= 120 else f"{text[:117]}..."


NAME = Kind(read_name, "1 to 64 characters from A-Z a-z 0-9 _ . @ -, a letter or digit first", "NAME")
SIZE = Kind(read_size, "a number of bytes, or text such as 512KiB, 64MiB, 1GiB", "SIZE", show_size)
DURATION = Kind(
    read_duration,
    "a number of seconds, or text such as 250ms, 90s, 10min; from 1ms to 24h",
    "DURATION",
    show_duration,
)
REST = Kind(read_rest, f"{DURATION.accepted}; 0 for none", "DURATION", show_duration)
AGE = Kind(
    read_age, "a number of seconds, or text such as 90s, 12h, 7d; from 1ms to 3650d; 0 for none", "DURATION", show_age
)
BIND = Kind(read_bind, "HOST:PORT such as 127.0.0.1:8765 or [::1]:8765; port 0 lets the system choose", "HOST:PORT")
BASE_URL = Kind(read_base_url, "an http or https URL that ends in /v1, without user, query or fragment", "URL")
PROXY_URL = Kind(read_proxy_url, "http://[USER:PASSWORD@]HOST:PORT or https://...", "URL", masked)
KEY = Kind(read_key, "a key of printable ASCII characters without blanks", "KEY")
KEYS = Kind(read_keys, "a list of different keys of printable ASCII characters without blanks", "KEYS")
NAMED_KEYS = Kind(read_named_keys, "NAME:KEY, several with commas between them", "NAME:KEY,...")
DIGEST = Kind(read_digest, "a SHA-256 digest, 64 hexadecimal digits", "DIGEST")
FLAG = Kind(read_flag, "true or false", "BOOL", lambda flag: str(flag).lower())
WEBSOCKETS = Kind(lambda value: value, "true or false, also as text; any other value is ignored", "BOOL", FLAG.show)
TABLE = Kind(read_table, "a table", "TABLE")
HEADERS = Kind(read_headers, 'a table such as { "x-team" = "search" }', "TABLE")
ORIGINS = Kind(read_origins, "origins such as https://app.example, in a list", "ORIGIN,...", ", ".join)
FILE = Kind(read_path, "the path of a file", "FILE")
DIRECTORY = Kind(read_path, "the path of a directory", "DIRECTORY")
CERTIFICATES = Kind(read_certificates, "the path of a file with certificates in PEM form", "FILE")
