"""What browsers want to be told before a page may read an answer (CORS)."""

from __future__ import annotations

from flask import Blueprint, Response, request

from ..upstream.headers import can_be_carried
from .access import Access

METHODS = "GET, POST, DELETE, OPTIONS"
PREFLIGHT_SECONDS = "600"
# An answer that says so, as the status page does, is for no other origin's pages.
OWN_ORIGIN = "Cross-Origin-Resource-Policy"


def add_origin_headers(blueprint: Blueprint, access: Access) -> None:
    """Have answers say which origin may read them, if it is one that may connect."""

    def tell(response: Response) -> Response:
        origin = request.headers.get("Origin")
        if origin is None or OWN_ORIGIN in response.headers:
            return response
        response.vary.add("Origin")
        if not (access.allows_origin(origin, request.headers.get("Host", "")) and can_be_carried("origin", origin)):
            return response
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "x-request-id, retry-after"
        asked = request.headers.get("Access-Control-Request-Headers")
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response.headers["Access-Control-Allow-Methods"] = METHODS
            response.headers["Access-Control-Max-Age"] = PREFLIGHT_SECONDS
            if asked and can_be_carried("access-control-request-headers", asked):
                response.headers["Access-Control-Allow-Headers"] = asked
        return response

    blueprint.after_request(tell)
