"""What people write where an address is wanted, and what they mean."""

from __future__ import annotations

import re
from urllib.parse import urlsplit


def base_url_meant(text: str) -> str:
    """
    Return the base URL that somebody meant who gave a text such as `localhost:8000` or `https://HOST/v1/responses`.

    Raises:
        ValueError: No URL can be seen in it.
    """
    full = re.sub(r"(?i)^(https?|wss?):/(?!/)", r"\1://", text)
    url = urlsplit(full if "://" in full else f"http://{full}")
    scheme = {"ws": "http", "wss": "https"}.get(url.scheme, url.scheme)
    if scheme not in ("http", "https") or not url.hostname or " " in text or url.port == 0:
        raise ValueError
    if "@" in f"{url.path}{url.query}{url.fragment}":  # a password with a character in it that ends the host
        raise ValueError
    path = url.path.rstrip("/")
    if not path.endswith("/v1"):
        path = path.rpartition("/v1/")[0] + "/v1" if "/v1/" in path else f"{path}/v1"
    return f"{scheme}://{url.netloc.rpartition('@')[2]}{path}"
