"""The largest request that an upstream takes."""

from __future__ import annotations

from ..protocol.wire import encode
from .case import Case
from .refusals import refused
from .results import Result, note, ok, warning
from .words import size

SMALLEST = 512 * 2**10
LARGEST = 16 * 2**20
# A long conversation with files and images is larger than what many servers in front of others accept.
ENOUGH = 4 * 2**20
RAISE = "Raise the limit for bodies of the upstream, or of what stands in front of it, such as client_max_body_size"


def body(case: Case) -> Result:
    """Send requests of twice the size each time; blanks between the fields cost no tokens."""
    request = encode(case.request("Say hello."))
    accepted, tried = 0, SMALLEST
    while tried <= LARGEST:
        padded = request[:-1] + b" " * (tried - len(request)) + b"}"
        heard = case.try_out(padded)
        if not heard.accepted:
            if case.left <= 0:
                return note(
                    f"{_up_to(accepted)}; for more the time was over", "--timeout waits longer", accepted=accepted
                )
            do = f"{RAISE}; longer conversations fail with what it says"
            words = f"{_up_to(accepted)}, and {size(tried)} not: {refused(heard)}"
            return (note if accepted >= ENOUGH else warning)(words, do, accepted=accepted, refused=tried)
        accepted, tried = tried, tried * 2
    return ok(f"{size(accepted)} are accepted, the largest that was tried", accepted=accepted)


def _up_to(accepted: int) -> str:
    return f"up to {size(accepted)} are accepted" if accepted else f"less than {size(SMALLEST)} is accepted"
