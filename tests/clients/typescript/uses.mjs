// Drives a live server through the official TypeScript SDK and prints what it read, as one JSON object.
// Usage: node uses.mjs BASE_URL KEY MODEL [structured | pictures FILE URL FILE_ID]
// Of a model that nobody has scripted these ask for structured output alone, or show it a PNG in every way: as a file,
// at its URL, and uploaded.

import { readFileSync } from "node:fs";
import Anthropic from "@anthropic-ai/sdk";

const [baseURL, apiKey, model, only, ...shown] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey, maxRetries: 0 });
const mark = { type: "ephemeral" };
const weather = {
  name: "weather",
  description: "The weather of a city.",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const answer = {
  type: "object",
  properties: { city: { enum: ['Köln "am" Rhein 😀', "Rom"] }, trams: { type: "integer" }, warm: { type: "boolean" } },
  required: ["city", "trams", "warm"],
  additionalProperties: false,
};

const asked = ({ words = "Hi", ...fields }) =>
  ({ model, max_tokens: 400, messages: [{ role: "user", content: words }], ...fields });
const whole = (fields = {}, by = client) => by.messages.create(asked(fields));
const streamed = (fields = {}) => client.messages.stream(asked(fields)).finalMessage();

// What a message says and cost, in the words that the drivers have in common.
function seen({ content, stop_reason, model, usage }) {
  return {
    text: content.filter(({ type }) => type === "text").map(({ text }) => text).join(""),
    stop: stop_reason,
    model,
    calls: content.filter(({ type }) => type === "tool_use").map(({ name, input }) => [name, input]),
    input: usage.input_tokens,
    output: usage.output_tokens,
    cache_read: usage.cache_read_input_tokens,
    cache_written: usage.cache_creation_input_tokens,
  };
}

// Each block's text, and the passages that it cites.
function cited({ content }) {
  return content.map(({ text, citations }) => [text, (citations ?? []).map(({ cited_text }) => cited_text)]);
}

async function toolLoop(ask) {
  const fields = { system: "Be brief.", tools: [weather] };
  const call = await ask({ ...fields, words: "Is it raining?" });
  const results = call.content.filter(({ type }) => type === "tool_use").map(({ id, input }) => (
    { type: "tool_result", tool_use_id: id, content: `rain in ${[...input.city].length} letters` }));
  const messages = [{ role: "user", content: "Is it raining?" }, { role: "assistant", content: call.content },
                    { role: "user", content: results }];
  return [seen(call), seen(await ask({ ...fields, messages }))];
}

// By way of a forced call, whole and streamed, and as JSON.
async function structured() {
  const forced = { tools: [{ name: "answer", input_schema: answer }], tool_choice: { type: "tool", name: "answer" } };
  const calls = [await whole(forced), await streamed(forced)];
  const output_config = { format: { type: "json_schema", schema: answer } };
  const document = await whole({ words: "Answer in JSON", output_config });
  return [...calls.map(({ content }) => content[0].input), JSON.parse(document.content[0].text)];
}

// One picture in every way.
async function pictures(path, url, file_id) {
  const image = (source) => ({ type: "image", source });
  const question = { type: "text", text: "What is it?" };
  const inline = image({ type: "base64", media_type: "image/png", data: readFileSync(path, "base64") });
  const asking = (...images) => ({ words: [...images, question], max_tokens: 24 });
  const byUrl = asking(image({ type: "url", url }));
  const inAResult = async (...content) => seen(await whole({ max_tokens: 8, messages: [
    { role: "user", content: "Look" },
    { role: "assistant", content: [{ type: "tool_use", id: "toolu_1", name: "camera", input: {} }] },
    { role: "user", content: [{ type: "tool_result", tool_use_id: "toolu_1", content }] },
  ] }));
  return {
    inline: seen(await whole(asking(inline))),
    by_url: seen(await whole(byUrl)),
    by_id: seen(await whole(asking(image({ type: "file", file_id })))),
    streamed: seen(await streamed(asking(inline))),
    two: seen(await whole(asking(inline, inline))),
    results: [await inAResult(inline), await inAResult(inline, inline)],
    counted: (await client.messages.countTokens({ model, messages: asked(byUrl).messages })).input_tokens,
  };
}

async function leaveAStory() {
  const stream = client.messages.stream(asked({ words: "Tell a long story", max_tokens: 8000 }));
  let text = "";
  stream.on("text", (piece) => {
    text += piece;
    stream.abort();
  });
  await stream.done().catch(() => {});
  return stream.aborted ? text : "";
}

async function errorOf(fields, by = client) {
  try {
    await whole(fields, by);
  } catch (error) {
    return { status: error.status, message: error.message };
  }
}

async function everything() {
  const turns = [{ role: "user", content: "Hi" }, { role: "assistant", content: "Hello, world!" },
                 { role: "user", content: "Again" }];
  const cached = {
    words: [{ type: "text", text: "Hi", cache_control: mark }],
    system: [{ type: "text", text: "Be brief. ".repeat(40), cache_control: mark }],
  };
  const sky = {
    type: "document",
    source: { type: "text", media_type: "text/plain",
              data: "Jupiter is the largest planet. It has 95 known moons. 😀 Saturn's rings are made of ice." },
    title: "Sky",
    citations: { enabled: true },
  };
  const moons = { words: [sky, { type: "text", text: "Moons?" }] };
  const image = { type: "image", source: { type: "base64", media_type: "image/png", data: "iVBORw0KGgo=" } };
  return {
    whole: seen(await whole({ stop_sequences: ["###"] })),
    streamed: seen(await streamed()),
    turns: seen(await whole({ system: "Be brief.", messages: turns })),
    loop: await toolLoop(whole),
    streamed_loop: await toolLoop(streamed),
    forced: seen(await whole({ tools: [weather], tool_choice: { type: "any" } })),
    structured: await structured(),
    cached: [seen(await whole(cached)), seen(await whole(cached))],
    cited: [cited(await whole(moons)), cited(await streamed(moons))],
    cut_short: seen(await whole({ max_tokens: 5 })),
    stopped: seen(await whole({ stop_sequences: [","] })),
    counted: (await client.messages.countTokens({ model, system: "Be brief.", messages: turns })).input_tokens,
    retried: seen(await whole({ words: "Good morning" }, new Anthropic({ baseURL, apiKey, maxRetries: 2 }))),
    left: await leaveAStory(),
    at_once: (await Promise.all([...Array(8).keys()].map((number) => whole({ words: `Hi ${number}` })))).map(
      (message) => seen(message).text),
    errors: {
      overloaded: await errorOf({ words: "Good morning, all" }),
      bad_key: await errorOf({}, new Anthropic({ baseURL, apiKey: "sk-wrong", maxRetries: 0 })),
      not_found: await errorOf({ model: "claude-foo" }),
      too_many: await errorOf({ max_tokens: 9000 }),
      thinking: await errorOf({ thinking: { type: "enabled", budget_tokens: 1024 } }),
      image: await errorOf({ words: [image] }),
    },
  };
}

const drives = { structured: async () => ({ structured: await structured() }), pictures: () => pictures(...shown) };
console.log(JSON.stringify(await (drives[only] ?? everything)()));
