// Drives a live server through the official TypeScript SDK and prints what it read, as one JSON object.
// Usage: node drive.mjs BASE_URL KEY MODEL DOCUMENT

import Anthropic from "@anthropic-ai/sdk";

const [baseURL, apiKey, model, document] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey, maxRetries: 0 });
const request = { model, max_tokens: 100, messages: [{ role: "user", content: "Hi" }] };

async function errorOf(promise) {
  try {
    await promise;
  } catch (error) {
    return { name: error.constructor.name, status: error.status, type: error.error?.error?.type,
             requestID: error.requestID };
  }
}

const whole = await client.messages.create(request);

const rawTypes = [];
for await (const event of await client.messages.create({ ...request, stream: true })) rawTypes.push(event.type);

let streamedText = "";
const stream = client.messages.stream(request).on("text", (text) => (streamedText += text));
const final = await stream.finalMessage();

const tools = [{ name: "clock", input_schema: { type: "object", properties: { zone: { type: "string" } } } }];
const called = await client.messages.create({ ...request, max_tokens: 500, tools });
let inputJson = "";
const calling = client.messages.stream({ ...request, max_tokens: 500, tools }).on("inputJson", (json) => (inputJson += json));
const streamedCall = await calling.finalMessage();

const citing = { ...request, messages: [{ role: "user", content: [JSON.parse(document)] }] };
const cited = await client.messages.create(citing);
const citedEvents = [];
const streamedCited = await client.messages.stream(citing).on("citation", (citation) => citedEvents.push(citation)).finalMessage();

const leaving = client.messages.stream(request);
const left = errorOf(leaving.finalMessage());
leaving.abort();
const abort = await left;

const models = [];
for await (const each of client.models.list({ limit: 1 })) models.push(each);

console.log(JSON.stringify({
  whole,
  requestID: whole._request_id,
  rawTypes,
  streamedText,
  final,
  called,
  streamedCall,
  inputJson,
  cited,
  streamedCited,
  citedEvents,
  abort,
  tokens: await client.messages.countTokens({ model, messages: request.messages }),
  models,
  retrieved: await client.models.retrieve(model),
  badRequest: await errorOf(client.messages.create({ ...request, max_tokens: 9000 })),
  notFound: await errorOf(client.messages.create({ ...request, model: "claude-foo" })),
  badKey: await errorOf(new Anthropic({ baseURL, apiKey: "sk-wrong", maxRetries: 0 }).messages.create(request)),
}));
