"""Messages that are whole, and mean nothing, or too much."""

from __future__ import annotations

from typing import Any

from ..integration.wire import TEXT, RawClient, create, frame
from .client_rows import Act, Fault, fault, heard, said, sends, unique
from .client_scene import Scene, comes_true

NOT_JSON = "400 invalid_json, completed"
REFUSED = "400, completed"


def text(content: bytes | str) -> Act:
    return sends(frame(TEXT, content if isinstance(content, bytes) else content.encode()))


def turn(raw: str) -> Act:
    """Return an act: a `response.create` with one more field, as it is written."""
    return text('{"type":"response.create","model":"demo","input":[],' + raw + "}")


def does_not_wait(scene: Scene) -> str:
    """10,000 turns while the first one runs; 16 may wait."""
    user = unique("does not wait")
    with RawClient(scene.calm) as client:
        client.say(create(model="held", user=user))
        if not comes_true(lambda: scene.upstream.begun[user] > 0):
            return "the turn did not begin"
        last = unique("the last that may wait")
        client.send(said(create()) * 15, said(create(last)), said(create()) * 9983)
        refused = [client.hear() for _ in range(9983)]
        scene.upstream.release(user)
        words = heard(client, until=last)
        client.say(create(last))
        statuses = {event.get("status") for event in refused}
        return f"{statuses} x{len(refused)}, {words}, {heard(client, until=last)}"


def names_a_response_of_another(**fields: Any) -> Act:
    def act(scene: Scene) -> str:
        with RawClient(scene.calm) as owner, RawClient(scene.calm) as client:
            owner.say(create("a secret"))
            response_id = owner.hear_turn()[-1]["response"]["id"]
            question = unique("question")
            client.send(said(create(previous_response_id=response_id, **fields)), said(create(question)))
            return heard(client, until=question)

    return act


ROWS: list[Fault] = [
    fault("an empty message", text(""), NOT_JSON),
    fault("not JSON", text("hello"), NOT_JSON),
    fault("JSON that breaks off", text('{"type":"response.create"'), NOT_JSON),
    fault("JSON with more behind it", text("{}{}"), NOT_JSON),
    fault("an array", text("[]"), NOT_JSON),
    fault("a string", text('"response.create"'), NOT_JSON),
    fault("null", text("null"), NOT_JSON),
    fault("100,000 brackets", text("[" * 100000), NOT_JSON),
    fault("a field with 100,000 levels", turn('"x":' + "[" * 100000 + "]" * 100000), NOT_JSON),
    fault("NUL bytes", text(b"\0" * 100), NOT_JSON),
    fault("a NUL byte in a string", turn('"x":"\0"'), NOT_JSON),
    fault("an escaped NUL in a string", turn('"x":"\\u0000"'), "completed x2"),
    fault("an escaped surrogate that is alone", turn('"x":"\\ud800"'), NOT_JSON),
    fault("a number of 400 digits", turn('"x":' + "9" * 400), "completed x2"),
    fault("1e999", turn('"x":1e999'), "completed x2"),
    fault("NaN", turn('"x":NaN'), NOT_JSON),
    fault("a key twice", turn('"x":1,"x":2'), "completed x2"),
    fault("its type twice", text('{"type":"x","type":"response.create","model":"demo"}'), "completed x2"),
    fault("a key that is a model in other letters", turn('"Model":"other"'), REFUSED),
    fault("a message without a type", text("{}"), REFUSED),
    fault("an unknown type", text('{"type":"response.explode"}'), REFUSED),
    fault("a type that is an object", text('{"type":{}}'), REFUSED),
    fault("a type of 100,000 characters", text('{"type":"' + "x" * 100000 + '"}'), REFUSED),
    fault("a type that nothing is done for", text('{"type":"response.processed"}'), "completed"),
    fault("a model that is a number", text('{"type":"response.create","model":1}'), REFUSED),
    fault("an input that is an object", text('{"type":"response.create","model":"demo","input":{}}'), REFUSED),
    *(
        fault(f"a stream_id that is {what}", turn(f'"stream_id":{value}'), "400 invalid_stream_id, completed")
        for what, value in (
            ("a number", "1"),
            ("an array", "[]"),
            ("empty", '""'),
            ("257 characters long", '"' + "x" * 257 + '"'),
            ("two lines", '"a\\nb"'),
            ("a path", '"../x"'),
        )
    ),
    fault("10,000 messages without waiting", does_not_wait, "{429} x9983, completed x17, completed"),
    *(
        fault(
            f"a response of another client, store {store}",
            names_a_response_of_another(store=store),
            "400 previous_response_not_found, completed",
        )
        for store in (False, True)
    ),
]
