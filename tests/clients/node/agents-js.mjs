// @openai/agents holds the conversation of ../conversation.json over one WebSocket.
// Usage: node agents-js.mjs BASE_URL MODEL default|chained; prints what the assistant said, as a JSON array.
// "default" sends the whole conversation in every turn; "chained" continues from the id of the previous answer.
import { readFileSync } from "node:fs";
import { Agent, setTracingDisabled, tool, withResponsesWebSocketSession } from "@openai/agents";
import WebSocket from "ws";

const [baseURL, model, mode] = process.argv.slice(2);
const conversation = JSON.parse(readFileSync(new URL("../conversation.json", import.meta.url)));

globalThis.WebSocket ??= WebSocket; // Node.js has one of its own from 22 on.
setTracingDisabled(true);

const weather = tool({ ...conversation.tool, execute: ({ city }) => `18 degrees in ${city}` });
const agent = new Agent({ name: "demo", model, instructions: conversation.instructions, tools: [weather] });

async function converse({ run }) {
  const said = [];
  let latest;
  for (const content of conversation.questions) {
    const asked = { role: "user", content };
    latest =
      mode === "chained"
        ? await run(agent, [asked], { previousResponseId: latest?.lastResponseId })
        : await run(agent, [...(latest?.history ?? []), asked]);
    said.push(latest.finalOutput);
  }
  return said;
}

const providerOptions = { apiKey: "client-key", baseURL };
console.log(JSON.stringify(await withResponsesWebSocketSession(converse, { providerOptions })));
