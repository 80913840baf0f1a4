"""Certificates in PEM form, as far as a setting that names some has to be checked."""

from __future__ import annotations

import base64
import re

# Where certificates begin and end; OpenSSL passes over such lines if something stands before them.
_PEM_BEGIN = re.compile(r"^-----BEGIN CERTIFICATE-----\s", re.MULTILINE)
_PEM_END = re.compile(r"^-----END CERTIFICATE-----", re.MULTILINE)


def fault_in(text: str) -> str:
    """Return what is wrong with a text that should hold certificates; empty if nothing is."""
    _, *parts = _PEM_BEGIN.split(text)
    if not parts:
        return "it holds no certificate"
    return "" if all(_holds_der(part) for part in parts) else "a certificate in it is not whole"


def _holds_der(part: str) -> bool:
    """
    Tell if a certificate is whole that begins with a text.

    The module `ssl`, which could read it, must not be imported here: gevent has not patched it yet.
    """
    encoded, *rest = _PEM_END.split(part, maxsplit=1)
    try:
        return bool(rest) and _is_sequence(base64.b64decode("".join(encoded.split()), validate=True))
    except ValueError:
        return False


def _is_sequence(der: bytes) -> bool:
    """Tell if bytes hold all of a SEQUENCE of DER, by its tag and its length (X.690, section 8.1.3)."""
    if len(der) < 2 or der[0] != 0x30:
        return False
    size = der[1] & 0x7F if der[1] & 0x80 else 0  # of the length, which follows if it is not short
    length = int.from_bytes(der[2 : 2 + size], "big") if size else der[1]
    return len(der) >= 2 + size + length  # OpenSSL passes over what follows
