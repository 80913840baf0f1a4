// openai-node holds the conversation of ../conversation.json over one WebSocket.
// Usage: node openai-node.mjs BASE_URL MODEL; prints what the assistant said, as a JSON array.
import { readFileSync } from "node:fs";
import OpenAI from "openai";
import { ResponsesWS } from "openai/resources/responses/ws";

const [baseURL, model] = process.argv.slice(2);
const { instructions, questions, tool } = JSON.parse(readFileSync(new URL("../conversation.json", import.meta.url)));

const socket = new ResponsesWS(new OpenAI({ apiKey: "client-key", baseURL }));
const records = socket.stream();

async function respond(turn) {
  socket.send({ type: "response.create", model, instructions, store: false, tools: [tool], ...turn });
  for (;;) {
    const { value, done } = await records.next();
    if (done || value.type === "close") throw new Error("the socket closed during a turn");
    if (value.type === "error") throw value.error;
    const { type, response } = value.message ?? {};
    if (type === "response.completed") return response;
    if (type === "response.failed" || type === "response.incomplete") throw new Error(JSON.stringify(response));
  }
}

function toolResults(response) {
  const calls = response.output.filter((item) => item.type === "function_call");
  return calls.map(({ call_id, arguments: json }) => ({
    type: "function_call_output",
    call_id,
    output: `18 degrees in ${JSON.parse(json).city}`,
  }));
}

function textOf(response) {
  const messages = response.output.filter((item) => item.type === "message");
  return messages.flatMap((item) => item.content.map((part) => part.text)).join("");
}

const said = [];
let previous_response_id;
for (const content of questions) {
  const call = await respond({ previous_response_id, input: [{ type: "message", role: "user", content }] });
  const answer = await respond({ previous_response_id: call.id, input: toolResults(call) });
  said.push(textOf(answer));
  previous_response_id = answer.id;
}
socket.close();
console.log(JSON.stringify(said));
