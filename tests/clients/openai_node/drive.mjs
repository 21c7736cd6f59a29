// Drives a live server through OpenAI's official client for Node and prints what it read, as one JSON object.
// Usage: node drive.mjs BASE_URL KEY MODEL [structured | pictures FILE URL FILE_ID]
// Of a model that nobody has scripted these ask for structured output alone, or show it a PNG in every way: as a file
// and at its URL.

import { readFileSync } from "node:fs";
import OpenAI from "openai";

const [base, apiKey, model, only, ...shown] = process.argv.slice(2);
const baseURL = `${base}/v1`;
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });

const tool = (name, parameters) => ({ type: "function", function: {
  name, description: "The weather of a city.", strict: true,
  parameters: { type: "object", additionalProperties: false, ...parameters } } });
const weather = tool("weather", { properties: { city: { type: "string" } }, required: ["city"] });
const answer = tool("answer", {
  properties: { city: { enum: ['Köln "am" Rhein 😀', "Rom"] }, trams: { type: "integer" }, warm: { type: "boolean" } },
  required: ["city", "trams", "warm"],
});

const asked = ({ words = "Hi", ...fields }) =>
  ({ model, max_completion_tokens: 400, messages: [{ role: "user", content: words }], ...fields });
const whole = (fields = {}, by = client) => by.chat.completions.create(asked(fields));
const streamed = (fields = {}) =>
  client.chat.completions.stream(asked({ stream_options: { include_usage: true }, ...fields })).finalChatCompletion();
const told = ({ city }) => `rain in ${[...city].length} letters`;

const callsOf = ({ choices: [{ message }] }) => (message.tool_calls ?? []).map(
  (call) => [call.function.name, JSON.parse(call.function.arguments)]);

// What a reply says and cost, in the words that the drivers have in common.
function seen(completion) {
  const { choices: [{ message, finish_reason }], model, usage } = completion;
  return { text: message.content ?? "", stop: finish_reason, model, calls: callsOf(completion),
           input: usage.prompt_tokens, output: usage.completion_tokens };
}

async function toolLoop(ask) {
  const messages = [{ role: "system", content: "Be brief." }, { role: "user", content: "Is it raining?" }];
  const call = await ask({ messages, tools: [weather] });
  const { message } = call.choices[0];
  const results = message.tool_calls.map(({ id, function: { arguments: text } }) => (
    { role: "tool", tool_call_id: id, content: told(JSON.parse(text)) }));
  return [seen(call), seen(await ask({ messages: [...messages, message, ...results], tools: [weather] }))];
}

// The client's own loop: it calls the function and sends back what that gives.
async function run() {
  const runner = client.chat.completions.runTools(asked({ words: "Is it raining?", tools: [
    { type: "function", function: { ...weather.function, parse: JSON.parse, function: told } }] }));
  return await runner.finalContent();
}

// By way of a forced call, whole and streamed; and as JSON, parsed by the client.
async function structured() {
  const forced = { tools: [answer], tool_choice: { type: "function", function: { name: "answer" } } };
  const calls = [await whole(forced), await streamed(forced)].map((each) => callsOf(each)[0][1]);
  const { parameters: schema } = answer.function;
  const response_format = { type: "json_schema", json_schema: { name: "answer", strict: true, schema } };
  const document = await whole({ words: "Answer in JSON", response_format });
  return [...calls, JSON.parse(document.choices[0].message.content)];
}

// One picture in every way that this form has.
async function pictures(path, url) {
  const image = (url) => ({ type: "image_url", image_url: { url } });
  const question = { type: "text", text: "What is it?" };
  const inline = image(`data:image/png;base64,${readFileSync(path, "base64")}`);
  const asking = (...images) => ({ words: [...images, question], max_completion_tokens: 24 });
  return {
    inline: seen(await whole(asking(inline))),
    by_url: seen(await whole(asking(image(url)))),
    streamed: seen(await streamed(asking(inline))),
    two: seen(await whole(asking(inline, inline))),
  };
}

async function leaveAStory() {
  const stream = await whole({ words: "Tell a long story", stream: true });
  for await (const { choices: [{ delta }] } of stream) {
    if (delta.content) {
      stream.controller.abort();
      return delta.content;
    }
  }
}

async function errorOf(fields, by = client) {
  try {
    await whole(fields, by);
  } catch (error) {
    return { status: error.status, message: error.message };
  }
}

async function everything() {
  const turns = [{ role: "system", content: "Be brief." }, { role: "user", content: "Hi" },
                 { role: "assistant", content: "Hello, world!" }, { role: "user", content: "Again" }];
  const broken = { type: "image_url", image_url: { url: "data:image/png;base64,iVBORw0KGgo=" } };
  return {
    whole: seen(await whole({ stop: ["###"] })),
    streamed: seen(await streamed()),
    turns: seen(await whole({ messages: turns })),
    loop: await toolLoop(whole),
    streamed_loop: await toolLoop(streamed),
    run: await run(),
    forced: seen(await whole({ tools: [weather], tool_choice: "required" })),
    structured: await structured(),
    cut_short: seen(await whole({ max_completion_tokens: 5 })),
    stopped: seen(await whole({ stop: "," })),
    retried: seen(await whole({ words: "Good morning" }, new OpenAI({ baseURL, apiKey, maxRetries: 2 }))),
    left: await leaveAStory(),
    at_once: (await Promise.all([...Array(8).keys()].map((number) => whole({ words: `Hi ${number}` })))).map(
      (completion) => seen(completion).text),
    errors: {
      overloaded: await errorOf({ words: "Good morning, all" }),
      bad_key: await errorOf({}, new OpenAI({ baseURL, apiKey: "sk-wrong", maxRetries: 0 })),
      not_found: await errorOf({ model: "claude-foo" }),
      too_many: await errorOf({ max_completion_tokens: 9000 }),
      image: await errorOf({ words: [broken] }),
    },
  };
}

const drives = { structured: async () => ({ structured: await structured() }), pictures: () => pictures(...shown) };
console.log(JSON.stringify(await (drives[only] ?? everything)()));
