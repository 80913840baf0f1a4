"""What is agreed on with a client that offers compression."""

from __future__ import annotations

import pytest

from wsgi_proxy.gateway.compression import negotiate


@pytest.mark.parametrize(
    ("offers", "accepted"),
    [
        ("permessage-deflate", "permessage-deflate; server_max_window_bits=11"),
        (
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_max_window_bits=11; client_max_window_bits=11",
        ),
        (
            "permessage-deflate; client_max_window_bits=10; server_max_window_bits=9",
            "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
        ),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=11",
        ),
        ("x-other, permessage-deflate", "permessage-deflate; server_max_window_bits=11"),
        (
            "permessage-deflate; server_max_window_bits=8, permessage-deflate",  # which zlib does not have
            "permessage-deflate; server_max_window_bits=11",
        ),
        (
            "permessage-deflate; server_max_window_bits=99, permessage-deflate",
            "permessage-deflate; server_max_window_bits=11",
        ),
    ],
)
def test_the_first_offer_that_can_be_accepted_is(offers: str, accepted: str) -> None:
    """With no larger a window than ours, and whatever else the client asks for."""
    said, deflate = negotiate(offers)
    assert accepted == said
    assert deflate is not None


@pytest.mark.parametrize(
    "offers", ["", "x-webkit-deflate-frame", "permessage-deflate; unknown=1", "permessage-deflate; =", ";,"]
)
def test_what_cannot_be_accepted_is_passed_over(offers: str) -> None:
    """The client gets by without."""
    assert (None, None) == negotiate(offers)


def test_each_session_has_its_own() -> None:
    """What one has sent must not be in the window of another."""
    assert negotiate("permessage-deflate")[1] is not negotiate("permessage-deflate")[1]
