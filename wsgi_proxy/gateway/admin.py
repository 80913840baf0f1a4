"""Who may look at the server: with the admin key, or from this machine where there is none."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
from collections.abc import Mapping
from typing import Any

from ..errors import AccessError
from ..settings import Settings
from .access import is_local_address, is_local_name
from .forwarding import is_handed_on_from_elsewhere

# Browsers ask their user for it.
CHALLENGE = {"www-authenticate": 'Basic realm="wsgi-proxy, with the admin key as the password", charset="UTF-8"'}
KEY_WANTED = "The admin key is needed: send it as `Authorization: Bearer KEY`, as `x-api-key: KEY`, or as a password."
ONLY_LOCAL = (
    "Without an admin key this is shown on the server's own machine only, under a name such as 127.0.0.1; make one "
    "up and set admin_key (WSGI_PROXY_ADMIN_KEY)."
)


class Admins:
    """
    Decides who may look.

    Args:
        settings: The admin key.
    """

    def __init__(self, settings: Settings) -> None:
        self._key = settings.admin_key

    def admit(self, environ: Mapping[str, Any], local_address: object = None) -> None:
        """
        Let somebody in, or say why not.

        Args:
            environ: The WSGI environment of the request.
            local_address: As for `Access.admit`.

        Raises:
            AccessError: 401 without the admin key; where there is none, 403 for whoever is not on this machine.
        """
        if self._key is not None:
            keys = [hmac.compare_digest(self._key.encode(), offer) for offer in _offers(environ)]
            if not any(keys):
                raise AccessError(KEY_WANTED, status=401, headers=CHALLENGE)
            return
        host = str(environ.get("HTTP_HOST", "")).strip()
        elsewhere = is_handed_on_from_elsewhere(environ) or not is_local_address(local_address)
        if elsewhere or not is_local_name(local_address, host):
            raise AccessError(ONLY_LOCAL, status=403, code="admin_key_required")


def _offers(environ: Mapping[str, Any]) -> list[bytes]:
    """Return the keys that a request carries."""
    scheme, _, token = str(environ.get("HTTP_AUTHORIZATION", "")).strip().partition(" ")
    offers = [str(environ.get("HTTP_X_API_KEY", "")).strip().encode("latin-1", "replace")]
    if scheme.lower() == "bearer":
        offers.append(token.strip().encode("latin-1", "replace"))
    elif scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error, ValueError):
            offers.append(base64.b64decode(token, validate=True).partition(b":")[2])
    return offers
