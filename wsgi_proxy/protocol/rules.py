"""What becomes of a message: the whole decision is one table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from .messages import APPEND, CREATE


class Holder(Enum):
    """Who has the transcript of the response that a message names."""

    NOBODY = "it names none"
    US = "this session"
    OTHERS = "not this session"


class Rule(Enum):
    """What becomes of a message."""

    BEGIN = "a new conversation"
    MERGE = "the lane's last turn goes on"
    CONTINUE = "the named response goes on, from our transcript"
    FORWARD = "the named response goes on, if the upstream knows it"
    REFUSE = "there is nothing to append to"


# (message type, holder of the named response, lane has a finished turn): {dialect: rule}
RULES: Mapping[tuple[str, Holder, bool], Mapping[str, Rule]] = {
    (CREATE, Holder.NOBODY, False): {"v2": Rule.BEGIN, "v1": Rule.BEGIN},
    (CREATE, Holder.NOBODY, True): {"v2": Rule.BEGIN, "v1": Rule.MERGE},
    (CREATE, Holder.US, False): {"v2": Rule.CONTINUE, "v1": Rule.CONTINUE},
    (CREATE, Holder.US, True): {"v2": Rule.CONTINUE, "v1": Rule.CONTINUE},
    (CREATE, Holder.OTHERS, False): {"v2": Rule.FORWARD, "v1": Rule.FORWARD},
    (CREATE, Holder.OTHERS, True): {"v2": Rule.FORWARD, "v1": Rule.FORWARD},
    (APPEND, Holder.NOBODY, False): {"v2": Rule.REFUSE, "v1": Rule.REFUSE},
    (APPEND, Holder.NOBODY, True): {"v2": Rule.MERGE, "v1": Rule.MERGE},
    (APPEND, Holder.US, False): {"v2": Rule.CONTINUE, "v1": Rule.CONTINUE},
    (APPEND, Holder.US, True): {"v2": Rule.CONTINUE, "v1": Rule.CONTINUE},
    (APPEND, Holder.OTHERS, False): {"v2": Rule.REFUSE, "v1": Rule.REFUSE},
    (APPEND, Holder.OTHERS, True): {"v2": Rule.FORWARD, "v1": Rule.FORWARD},
}
