"""What is refused or has failed is held by nobody: it may be large, and the collector comes late."""

from __future__ import annotations

import gc
import traceback
from types import FrameType

import pytest

from wsgi_proxy.errors import ClosedEarly, RequestError, without_origin
from wsgi_proxy.protocol.dialect import V2
from wsgi_proxy.protocol.session import Answer, Session

LARGE = b"x" * 2**20
MESSAGES = (
    b'{"type":"response.create","input":"%b"}' % LARGE,  # no model
    b'{"type":"nonsense","input":"%b"}' % LARGE,
    b'{"type":"response.append","input":"%b"}' % LARGE,
    b'{"type":"response.create","model":1,"stream_id":"/","input":"%b"}' % LARGE,
    b'{"input":"%b' % LARGE,
    b"[" * 100_000,
)


@pytest.mark.parametrize("raw", MESSAGES, ids=range(len(MESSAGES)))
def test_a_message_that_is_refused_leaves_nothing_to_the_collector(raw: bytes) -> None:
    """Neither itself nor where it was looked at."""
    session = Session(V2, clock=lambda: 0.0, new_id=lambda: "1")
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        (answer,) = session.receive(raw)
        assert isinstance(answer, Answer)
        error = answer.error
        assert error is not None
        assert (None, None, None) == (error.__traceback__, error.__cause__, error.__context__)
        session.finish(answer)
        del answer, error
        gc.collect()
        assert [] == [found for found in gc.garbage if isinstance(found, FrameType | RequestError)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_an_error_without_origin_is_the_same_error() -> None:
    """It can be raised again."""
    error = ClosedEarly("gone")
    with pytest.raises(ClosedEarly):
        try:
            raise ValueError
        except ValueError as exc:
            raise error from exc
    assert "ValueError" in "".join(traceback.format_exception(error))
    assert without_origin(error) is error
    assert "ValueError" not in "".join(traceback.format_exception(error))
