"""What agents need: a tool call and its output, reasoning that is sent back, and fields that Codex sends."""

from __future__ import annotations

from ..protocol.wire import encode
from .case import TOOL_TOKENS, Case, said
from .exchange import Heard, Json
from .refusals import failing, refused
from .results import Result, note, ok, skipped, warning

QUESTION = "What is the weather in Paris? Call the tool get_weather to find out."
ANSWER = "18 degrees, clear sky"
WEATHER: Json = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city right now.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
# Of every request of Codex, beside what the other checks send.
CODEX: Json = {
    "instructions": "You are a coding agent.",
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "prompt_cache_key": "wsgi-proxy-doctor",
    "client_metadata": {"x-codex-installation-id": "wsgi-proxy-doctor"},
}
UNKNOWN: Json = {"wsgi_proxy_doctor": True}
REASONING: Json = {
    "id": "rs_wsgi_proxy_doctor",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "The user greets, so greet back."}],
}
NO_AGENTS = "Agents such as Codex cannot work with this model; chats can. Start the server with its option for tools"
NOT_WHOLE = "it needs a whole answer, and the one before did not end in time"
SEND_BACK = "The proxy sends what was said before with every turn, so a conversation with it fails at its second turn"


def tools(case: Case) -> Result:
    """Offer a tool, hand in its output, and ask for the answer."""
    if not _answers_end(case):
        return skipped(NOT_WHOLE)
    asked = case.ask(QUESTION, tokens=TOOL_TOKENS, tools=[WEATHER])
    if not asked.finished:
        return warning(f"a request with a tool gets no answer: {refused(asked)}", failing(asked).do or NO_AGENTS)
    call = next((item for item in asked.output if item.get("type") == "function_call"), None)
    if call is None:
        made = ", ".join(str(item.get("type")) for item in asked.output) or "nothing"
        return warning(f"it was asked to call a tool, and made {made}", NO_AGENTS, called=False)
    output = {"type": "function_call_output", "call_id": call.get("call_id"), "output": ANSWER}
    thoughts = [item for item in asked.output if item.get("type") == "reasoning"]
    answered = _answered(case, [*asked.output, output])
    if thoughts:
        case.found.reasoning_back = answered.finished
    if not answered.finished and thoughts:
        without = [item for item in asked.output if item not in thoughts]
        answered = _answered(case, [*without, output])
    if not answered.finished:
        case.found.reasoning_back = None
        return warning(f"it calls the tool, and refuses its output: {refused(answered)}", SEND_BACK, called=True)
    knows = "18" in answered.text
    words = f"it calls {call.get('name')} with {call.get('arguments')}, and takes its output"
    if not knows:
        return note(f"{words}, but the answer does not speak of it", "Look at what it says", called=True)
    return ok(words, called=True)


def reasoning(case: Case) -> Result:
    """Send reasoning back as a conversation has it: its own if it made some, and one of another server if not."""
    if case.found.reasoning_back is not None:
        if case.found.reasoning_back:
            return ok("its own reasoning items are taken back", own=True)
        return warning("it refuses the reasoning items that it made itself", SEND_BACK, own=True)
    answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello."}]}
    items = [said("Hello."), REASONING, answer, said("Say hello again.")]
    heard = case.try_out(encode(case.request(items)))
    if heard.accepted:
        return ok("it made no reasoning, and takes reasoning items of others", own=False)
    return note(
        f"it made no reasoning, and refuses a reasoning item of another server: {refused(heard)}",
        "That matters only if clients change to it in the middle of a conversation",
        own=False,
    )


def parameters(case: Case) -> Result:
    """Send the fields that Codex sends, and one that nobody knows."""
    codex = case.try_out(encode(case.request("Say hello.", **CODEX)))
    if not codex.accepted:
        return warning(
            f"a request with the fields of Codex is refused: {refused(codex)}",
            "Codex cannot use it; the proxy changes no field, so the upstream or a gateway has to ignore this one",
            codex=False,
        )
    unknown = case.try_out(encode(case.request("Say hello.", **UNKNOWN)))
    if not unknown.accepted:
        return note(
            f"the fields of Codex are taken, and unknown ones refused: {refused(unknown)}",
            "Clients that are newer than the upstream may be refused",
            codex=True,
            unknown=False,
        )
    return ok("the fields of Codex are taken, and unknown ones ignored", codex=True, unknown=True)


def _answered(case: Case, items: list[Json]) -> Heard:
    return case.ask([said(QUESTION), *items], tokens=TOOL_TOKENS, tools=[WEATHER])


def _answers_end(case: Case) -> bool:
    return any(heard.finished for heard in case.heard)
