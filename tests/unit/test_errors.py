from __future__ import annotations

import pytest

from wsgi_proxy import errors
from wsgi_proxy.errors import ProxyError, kind_of


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", None),
        (401, "authentication_error", "invalid_api_key"),
        (402, "invalid_request_error", None),
        (403, "permission_error", "insufficient_quota"),
        (404, "invalid_request_error", "model_not_found"),
        (408, "invalid_request_error", None),
        (413, "invalid_request_error", None),
        (422, "invalid_request_error", None),
        (429, "rate_limit_error", "rate_limit_exceeded"),
        (499, "invalid_request_error", None),
        (500, "server_error", "internal_server_error"),
        (502, "server_error", "internal_server_error"),
        (504, "server_error", "internal_server_error"),
        (529, "server_error", "internal_server_error"),
    ],
)
def test_a_status_has_the_type_and_code_of_the_reference(status: int, kind: str, code: str | None) -> None:
    """The table of section 6."""
    assert (kind, code) == kind_of(status)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ProxyError("x"), 500),
        (errors.RequestError("x"), 400),
        (errors.AccessError("x"), 401),
        (errors.AccessError("x", status=429), 429),
        (errors.CredentialError("x"), 503),
        (errors.CredentialError("x", status=404), 404),
        (errors.UpstreamError("x"), 502),
        (errors.Unreachable("x"), 502),
        (errors.TimedOut("x"), 504),
        (errors.ConnectTimedOut("x"), 504),
        (errors.ProtocolFault("x"), 502),
        (errors.ClosedEarly("x"), 408),
        (errors.Rejected("x", status=418), 418),
        (errors.RequestError("x", status=413), 413),
    ],
)
def test_every_error_knows_its_status(error: ProxyError, status: int) -> None:
    """It is the class's own unless another is given."""
    assert status == error.status
    assert errors.ProxyError("x").status == ProxyError.status


def test_the_body_has_only_what_is_known() -> None:
    """`code` and `param` are absent rather than null."""
    assert {"type": "invalid_request_error", "message": "x"} == errors.RequestError("x").body
    full = errors.RequestError("x", code="c", param="p").body
    assert {"type": "invalid_request_error", "code": "c", "message": "x", "param": "p"} == full
    assert {"type": "server_error", "code": "internal_server_error", "message": "x"} == ProxyError("x").body


def test_an_error_reads_as_its_message() -> None:
    """And keeps a copy of the headers that it was given."""
    headers = {"retry-after": "1"}
    error = ProxyError("what happened", headers=headers)
    headers.clear()
    assert ("what happened", {"retry-after": "1"}) == (str(error), error.headers)


def test_no_connection_in_time_is_both() -> None:
    """Whoever looks for one of them finds it: the upstream cannot be reached, and it was silent."""
    error = errors.ConnectTimedOut("x")
    assert isinstance(error, errors.Unreachable)
    assert isinstance(error, errors.TimedOut)


def test_only_a_rejection_was_answered_by_itself() -> None:
    """Where a status became another error, whoever makes that says so; it says nothing about others of its kind."""
    assert 429 == errors.Rejected("x", status=429).answered
    fault = errors.ProtocolFault("x")
    fault.answered = 503
    assert [None, None, None] == [
        error.answered for error in (errors.ProtocolFault("x"), errors.ClosedEarly("x"), errors.Unreachable("x"))
    ]
    assert (502, 503) == (fault.status, fault.answered)
