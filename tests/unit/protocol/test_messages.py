from __future__ import annotations

import pytest

from wsgi_proxy.errors import RequestError
from wsgi_proxy.protocol import messages
from wsgi_proxy.protocol.dialect import V1, V2, Dialect
from wsgi_proxy.protocol.messages import INPUT_NOT_ARRAY, MISSING_MODEL, parse
from wsgi_proxy.protocol.wire import join_object


def test_parse_takes_out_what_is_for_the_proxy() -> None:
    """Everything else stays, as it was written and in order."""
    message = parse(
        b'{"model": "m", "type": "response.create", "generate": true, "store":false, "stream_id":"s",'
        b'"background":true, "input" : [ 1.50 ], "previous_response_id":"r", "client_metadata":{"a": 1}}'
    )
    assert ("response.create", "s", "r", False) == (
        message.type,
        message.lane,
        message.previous_id,
        message.prewarm,
    )
    expected = {"model": b'"m"', "store": b"false", "input": b"[ 1.50 ]", "client_metadata": b'{"a": 1}'}
    assert list(expected.items()) == list(message.fields.items())


def test_parse_of_an_empty_object_finds_nothing() -> None:
    """That it has no type is for the session to say."""
    message = parse(b"{}")
    assert ("", None, None, False, {}) == (
        message.type,
        message.lane,
        message.previous_id,
        message.prewarm,
        message.fields,
    )


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'"response.create"', "response.create"),
        (b'" response.create\\n"', "response.create"),
        (b'"response\\u002ecreate"', "response.create"),
        (b'"RESPONSE.CREATE"', "RESPONSE.CREATE"),
        (b"null", ""),
        (b'""', ""),
        (b"5", "5"),
        (b"true", "true"),
        (b'{"a": 1}', '{"a": 1}'),
    ],
)
def test_the_type_is_read_as_the_reference_reads_it(raw: bytes, expected: str) -> None:
    """Without outer white space; what is no text stands for itself in the error that follows."""
    assert expected == parse(b'{"type":' + raw + b"}").type


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'"r"', "r"),
        (b'" r "', "r"),
        (b'"r\\u0031"', "r1"),
        (b'""', None),
        (b'"  "', None),
        (b"null", None),
        (b"5", "5"),
    ],
)
def test_a_blank_previous_id_is_none(raw: bytes, expected: str | None) -> None:
    """Absent, null and blank mean the same."""
    assert expected == parse(b'{"previous_response_id":' + raw + b"}").previous_id


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"generate":false}', True),
        (b'{"generate": false }', True),
        (b'{"generate":true}', False),
        (b'{"generate":null}', False),
        (b'{"generate":0}', False),
        (b'{"generate":"false"}', False),
        (b'{"generate":true,"generate":false}', True),
        (b'{"generate":false,"generate":true}', False),
        (b'{"prompt_cache_options":{"prewarm":true}}', True),
        (b'{"prompt_cache_options":{"prewarm":false}}', False),
        (b'{"prompt_cache_options":{"prewarm":1}}', False),
        (b'{"prompt_cache_options":{"prewarm":"true"}}', False),
        (b'{"prompt_cache_options":true}', False),
        (b'{"prompt_cache_options":null}', False),
        (b'{"generate":true,"prompt_cache_options":{"prewarm":true}}', True),
    ],
)
def test_a_prewarm_is_asked_for_exactly(raw: bytes, expected: bool) -> None:
    """Only `false`, and only `true`: nothing that is like them."""
    assert expected is parse(raw).prewarm


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'"a"', "a"),
        (b'"AZaz09_.-"', "AZaz09_.-"),
        (b'"' + b"x" * 256 + b'"', "x" * 256),
        (b'"\\u0061"', "a"),
        (b"null", None),
    ],
)
def test_a_stream_id_names_the_lane(raw: bytes, expected: str | None) -> None:
    """From one to 256 characters; null is the default lane."""
    assert expected == parse(b'{"stream_id":' + raw + b"}").lane


@pytest.mark.parametrize(
    "raw", [b'""', b'"' + b"x" * 257 + b'"', b'"a b"', b'"a\\n"', b'"\xc3\xa9"', b'"a/b"', b"5", b"[]", b"{}", b"false"]
)
def test_a_bad_stream_id_is_refused(raw: bytes) -> None:
    """The error names the parameter."""
    with pytest.raises(RequestError) as caught:
        parse(b'{"type":"response.create","stream_id":' + raw + b"}")
    assert (400, "invalid_stream_id", "stream_id") == (caught.value.status, caught.value.code, caught.value.param)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"hello",
        b"[]",
        b"null",
        b'"text"',
        b'{"type":',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800 x"}',
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    """With the words of the decoder."""
    with pytest.raises(RequestError, match=r"^the message is not a valid JSON object: .+") as caught:
        parse(raw)
    assert (400, "invalid_json") == (caught.value.status, caught.value.code)


TEXT_INPUT = b'[{"type":"message","role":"user","content":[{"type":"input_text","text":"h\\u00e9"}]}]'


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, b"[]"),
        ({"input": b"[ ]"}, b"[ ]"),
        ({"input": b'[1.50, {"a" :1}]'}, b'[1.50, {"a" :1}]'),
        ({"input": b'"h\\u00e9"'}, TEXT_INPUT),
    ],
)
def test_first_input_is_an_array_a_string_or_absent(fields: dict[str, bytes], expected: bytes) -> None:
    """A string becomes one user message, with its escapes as they were."""
    assert expected == messages.first_input(fields)


@pytest.mark.parametrize("raw", [b"null", b"{}", b"1", b"true"])
def test_first_input_of_another_type_is_refused(raw: bytes) -> None:
    """With the words of the reference."""
    with pytest.raises(RequestError, match=f"^{INPUT_NOT_ARRAY}$") as caught:
        messages.first_input({"input": raw})
    assert "input" == caught.value.param


@pytest.mark.parametrize("dialect", [V1, V2], ids=lambda dialect: dialect.name)
def test_next_input_has_to_be_an_array(dialect: Dialect) -> None:
    """It is taken as it is, and nothing stands for an absent one."""
    assert b"[ 1 ]" == messages.next_input({"input": b"[ 1 ]"}, dialect)
    for fields in ({}, {"input": b"null"}, {"input": b"{}"}, {"input": b"1"}):
        with pytest.raises(RequestError, match=f"^{INPUT_NOT_ARRAY}$"):
            messages.next_input(fields, dialect)


def test_the_words_are_those_of_the_reference() -> None:
    """Clients may look for them."""
    assert "websocket request requires array field: input" == INPUT_NOT_ARRAY
    assert "missing model in response.create request" == MISSING_MODEL


def test_next_input_may_be_a_string_in_v2_only() -> None:
    """The reference refuses it."""
    assert TEXT_INPUT == messages.next_input({"input": b'"h\\u00e9"'}, V2)
    with pytest.raises(RequestError, match=f"^{INPUT_NOT_ARRAY}$"):
        messages.next_input({"input": b'"h"'}, V1)


def test_model_of_reads_the_model() -> None:
    """Outer white space is not part of the name."""
    assert "gpt-5" == messages.model_of({"model": b'" gpt-5\\t"'})


@pytest.mark.parametrize("fields", [{}, {"model": b"null"}, {"model": b'""'}, {"model": b'" \\n"'}, {"model": b"5"}])
def test_model_of_refuses_a_request_without_a_model(fields: dict[str, bytes]) -> None:
    """With the words of the reference."""
    with pytest.raises(RequestError, match=f"^{MISSING_MODEL}$") as caught:
        messages.model_of(fields)
    assert (400, "model") == (caught.value.status, caught.value.param)


@pytest.mark.parametrize(
    ("fields", "previous_id", "expected"),
    [
        ({"model": b'"m"'}, None, b'{"model":"m","input":[1],"stream":true}'),
        ({"stream": b"false", "x": b"1.0"}, None, b'{"stream":true,"x":1.0,"input":[1]}'),
        ({"input": b"[0]", "x": b"1.0"}, None, b'{"input":[1],"x":1.0,"stream":true}'),
        ({}, 'r"', b'{"input":[1],"stream":true,"previous_response_id":"r\\""}'),
    ],
)
def test_request_fields_always_stream(fields: dict[str, bytes], previous_id: str | None, expected: bytes) -> None:
    """The client's fields keep their order, and the input its place among them."""
    before = dict(fields)
    assert expected == join_object(messages.request_fields(fields, b"[1]", previous_id))
    assert before == fields


@pytest.mark.parametrize(("generate", "extra"), [(True, b""), (False, b'"generate":false,')])
def test_a_request_becomes_a_message_for_an_upstream(generate: bool, extra: bytes) -> None:
    """Its bytes stay as they are, and a prewarm says that it is one."""
    request = b'{"model":"m", "input" : [ 1.50 ]}'
    expected = b'{"type":"response.create",' + extra + request[1:]
    assert expected == messages.create_message(request, generate=generate)


@pytest.mark.parametrize("name", ["Model", "MODEL", "Previous_Response_Id"])
def test_a_key_that_looks_like_one_that_decides_is_refused(name: str) -> None:
    """An upstream that reads keys in any case would take another model, or go on from another response."""
    with pytest.raises(RequestError) as caught:
        parse(b'{"type":"response.create","model":"m","%b":"x"}' % name.encode())

    assert name == caught.value.param
    assert f"write '{name.lower()}'" in caught.value.message


def test_a_model_has_a_name_of_reasonable_length() -> None:
    """At the limit it is one, with one more character it is not; what clients send decides nothing beyond that."""
    longest = "m" * messages.MODEL_CHARACTERS

    assert longest == messages.model_of({"model": f'" {longest} "'.encode()})
    with pytest.raises(RequestError, match="longer than 256 characters"):
        messages.model_of({"model": f'"{longest}m"'.encode()})
