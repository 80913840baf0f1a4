"""The two dialects of clients, as tables of rules, and how one is chosen."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """
    What a client of one generation expects.

    Attributes:
        name: `v1` or `v2`, as in the `dialect` setting.
        renames: Event types that are changed on their way to the client.
        finished: The type of the terminal event that the proxy writes itself.
        create_merges: A `response.create` without an id continues the lane's last turn.
        create_inherits: Fields of the last request that a `response.create` takes over if it continues and lacks them;
            a `response.append` takes over every field.
        text_continues: A plain string is accepted as the input of a continuation.
    """

    name: str
    renames: dict[str, str]
    finished: str
    create_merges: bool
    create_inherits: tuple[str, ...]
    text_continues: bool


# What Codex since 0.110 and all SDKs expect. Differs from the reference: they hang on `response.done`, and the
# Agents SDKs send a full `response.create` every turn, which merging would duplicate.
V2 = Dialect(
    name="v2",
    renames={"response.done": "response.completed"},
    finished="response.completed",
    create_merges=False,
    create_inherits=(),
    text_continues=True,
)

# The reference.
V1 = Dialect(
    name="v1",
    renames={"response.completed": "response.done"},
    finished="response.done",
    create_merges=True,
    create_inherits=("model", "instructions"),
    text_continues=False,
)

DIALECTS = {"v1": V1, "v2": V2}
V1_DATE = "2026-02-04"
_DATES = re.compile(r"\bresponses_websockets=([^\s,;]*)")


def negotiate(beta: str | None, setting: str = "auto") -> Dialect:
    """
    Choose the dialect of a connection.

    Args:
        beta: The client's `OpenAI-Beta` header, None if absent.
        setting: `v1` or `v2` to force one, `auto` to look at the header.

    Returns:
        v1 if the header names its date and no other `responses_websockets` date, otherwise v2.
    """
    if setting != "auto":
        return DIALECTS[setting]
    return V1 if set(_DATES.findall(beta or "")) == {V1_DATE} else V2
