// Drives a live server through the Vercel AI SDK and prints what it read, as one JSON object.
// Usage: node drive.mjs BASE_URL KEY MODEL [structured | pictures FILE URL FILE_ID]
// Of a model that nobody has scripted these ask for structured output alone, or show it a PNG in every way: as a file,
// at its URL, and uploaded.

import { readFileSync } from "node:fs";
import { createAnthropic } from "@ai-sdk/anthropic";
import { generateObject, generateText, isStepCount, Output, streamObject, streamText, tool } from "ai";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false;
const [url, apiKey, model, only, ...shown] = process.argv.slice(2);
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey });
const request = { model: anthropic(model), maxOutputTokens: 400, maxRetries: 0 };
const hi = { ...request, prompt: "Hi" };
const answer = z.object({ city: z.enum(['Köln "am" Rhein 😀', "Rom"]), trams: z.number().int(), warm: z.boolean() });
const weather = tool({
  description: "The weather of a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `rain in ${[...city].length} letters`,
});

// What a reply says and cost, in the words that the drivers have in common.
function seen({ text, finishReason, usage, toolCalls, response }) {
  return {
    text,
    stop: finishReason,
    model: response.modelId,
    calls: toolCalls.map(({ toolName, input }) => [toolName, input]),
    input: usage.inputTokens,
    output: usage.outputTokens,
    cache_read: usage.inputTokenDetails.cacheReadTokens,
    cache_written: usage.inputTokenDetails.cacheWriteTokens,
  };
}

async function reply(options) {
  return seen(await generateText({ ...hi, ...options }));
}

// The replies of a stream, whose last text is also read piece by piece.
async function streamed(options) {
  const result = streamText({ ...request, ...options, onError: () => {} });
  let text = "";
  for await (const piece of result.textStream) text += piece;
  const steps = (await result.steps).map(seen);
  return [...steps.slice(0, -1), { ...steps.at(-1), text }];
}

// Each block's text, and the passages that it cites.
function cited({ content }) {
  const passages = (citations = []) => citations.map(({ source }) => source.providerMetadata.anthropic.cited_text);
  return content.filter(({ type }) => type === "text").map(({ text, citations }) => [text, passages(citations)]);
}

// One picture in every way.
async function pictures(path, address, fileId) {
  const image = (data) => ({ type: "file", mediaType: "image/png", data });
  const inline = image(readFileSync(path));
  const asking = (...images) => ({ ...request, prompt: undefined, maxOutputTokens: 24, messages: [
    { role: "user", content: [...images, { type: "text", text: "What is it?" }] }] });
  const output = (images) => ({ type: "content", value: images.map(
    ({ data, ...file }) => ({ ...file, data: { type: "data", data: data.toString("base64") } })) });
  const call = { toolCallId: "toolu_1", toolName: "camera" };
  const inAResult = async (...images) => seen(await generateText({ ...request, maxOutputTokens: 8, messages: [
    { role: "user", content: "Look" },
    { role: "assistant", content: [{ type: "tool-call", ...call, input: {} }] },
    { role: "tool", content: [{ type: "tool-result", ...call, output: output(images) }] },
  ] }));
  return {
    inline: await reply(asking(inline)),
    by_url: await reply(asking(image(new URL(address)))),
    by_id: await reply(asking(image({ type: "reference", reference: { anthropic: fileId } }))),
    streamed: (await streamed(asking(inline)))[0],
    two: await reply(asking(inline, inline)),
    results: [await inAResult(inline), await inAResult(inline, inline)],
  };
}

async function leaveAStory() {
  const leaving = new AbortController();
  const result = streamText({ ...request, maxOutputTokens: 8000, prompt: "Tell a long story",
                              abortSignal: leaving.signal, onError: () => {} });
  let text = "";
  let aborted = false;
  for await (const part of result.stream) {
    if (part.type === "text-delta") {
      text += part.text;
      leaving.abort();
    }
    aborted ||= part.type === "abort";
  }
  return aborted ? text : "";
}

// With Output.object, and in the two ways of before; to this model all of them are a forced call.
async function structured() {
  const streamedObject = streamObject({ ...hi, schema: answer, onError: () => {} });
  for await (const partial of streamedObject.partialObjectStream) void partial;
  return [
    (await generateText({ ...hi, output: Output.object({ schema: answer }) })).output,
    (await generateObject({ ...hi, schema: answer })).object,
    await streamedObject.object,
  ];
}

async function errorOf(options) {
  try {
    await generateText({ ...hi, ...options });
  } catch (error) {
    return { status: error.statusCode, message: error.message, retryable: error.isRetryable };
  }
}

async function everything() {
  const mark = { anthropic: { cacheControl: { type: "ephemeral" } } };
  const cached = {
    prompt: undefined,
    instructions: { role: "system", content: "Be brief. ".repeat(40), providerOptions: mark },
    messages: [{ role: "user", content: [{ type: "text", text: "Hi", providerOptions: mark }] }],
  };
  const turns = [{ role: "user", content: "Hi" }, { role: "assistant", content: "Hello, world!" },
                 { role: "user", content: "Again" }];
  const loop = { prompt: "Is it raining?", instructions: "Be brief.", tools: { weather }, stopWhen: isStepCount(3) };
  const sky = {
    type: "file",
    mediaType: "text/plain",
    data: new TextEncoder().encode(
      "Jupiter is the largest planet. It has 95 known moons. 😀 Saturn's rings are made of ice."),
    providerOptions: { anthropic: { citations: { enabled: true }, title: "Sky" } },
  };
  const moons = { ...request, messages: [{ role: "user", content: [sky, { type: "text", text: "Moons?" }] }] };
  const image = { type: "file", mediaType: "image/png", data: new Uint8Array([137, 80, 78, 71]) };
  return {
    whole: await reply({ temperature: 0.5, topK: 40, stopSequences: ["###"] }),
    streamed: (await streamed({ prompt: "Hi" }))[0],
    turns: await reply({ prompt: undefined, instructions: "Be brief.", messages: turns }),
    loop: (await generateText({ ...request, ...loop })).steps.map(seen),
    streamed_loop: await streamed(loop),
    forced: await reply({ tools: { weather }, toolChoice: { type: "tool", toolName: "weather" } }),
    structured: await structured(),
    cached: [await reply(cached), await reply(cached)],
    cited: [cited(await generateText(moons)), cited((await streamText(moons).steps)[0])],
    cut_short: await reply({ maxOutputTokens: 5 }),
    stopped: await reply({ stopSequences: [","] }),
    retried: await reply({ maxRetries: 2, prompt: "Good morning" }),
    left: await leaveAStory(),
    at_once: (await Promise.all([...Array(8).keys()].map((number) => reply({ prompt: `Hi ${number}` })))).map(
      ({ text }) => text),
    errors: {
      overloaded: await errorOf({ prompt: "Good morning, all" }),
      bad_key: await errorOf({ model: createAnthropic({ baseURL: `${url}/v1`, apiKey: "sk-wrong" })(model) }),
      not_found: await errorOf({ model: anthropic("claude-foo") }),
      image: await errorOf({ prompt: undefined,
                             messages: [{ role: "user", content: [{ type: "text", text: "See" }, image] }] }),
    },
  };
}

const drives = { structured: async () => ({ structured: await structured() }), pictures: () => pictures(...shown) };
console.log(JSON.stringify(await (drives[only] ?? everything)()));
