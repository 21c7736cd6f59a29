// Drives a live server through the AWS SDK for JavaScript and prints what it read, as one JSON object.
// Usage: node uses.mjs ENDPOINT ACCESS_KEY_ID SECRET_ACCESS_KEY BEARER_KEY MODEL

import { BedrockClient, ListFoundationModelsCommand, ListInferenceProfilesCommand } from "@aws-sdk/client-bedrock";
import {
  BedrockRuntimeClient,
  ConverseCommand,
  ConverseStreamCommand,
  CountTokensCommand,
  InvokeModelCommand,
  InvokeModelWithResponseStreamCommand,
} from "@aws-sdk/client-bedrock-runtime";
import { NodeHttpHandler } from "@smithy/node-http-handler";

const [endpoint, accessKeyId, secretAccessKey, token, modelId] = process.argv.slice(2);
const credentials = { accessKeyId, secretAccessKey };
const place = { endpoint, region: "us-west-2", credentials, maxAttempts: 1 };
const client = new BedrockRuntimeClient(place); // which speaks HTTP/2, left to itself
const control = new BedrockClient(place);

const asked = (words, fields = {}) => ({
  modelId,
  body: JSON.stringify({
    anthropic_version: "bedrock-2023-05-31",
    max_tokens: 400,
    messages: [{ role: "user", content: words }],
    ...fields,
  }),
});

async function whole(words = "Hi", fields = {}, by = client) {
  const answer = await by.send(new InvokeModelCommand(asked(words, fields)));
  const message = JSON.parse(Buffer.from(answer.body).toString());
  return { message, contentType: answer.contentType, requestId: answer.$metadata.requestId };
}

async function streamed(words = "Hi", fields = {}) {
  const { body } = await client.send(new InvokeModelWithResponseStreamCommand(asked(words, fields)));
  const events = [];
  for await (const { chunk } of body) events.push(JSON.parse(Buffer.from(chunk.bytes).toString()));
  return events;
}

const talked = (words, fields = {}) => ({
  modelId,
  messages: [{ role: "user", content: [{ text: words }] }],
  inferenceConfig: { maxTokens: 400 },
  ...fields,
});

async function conversed(words, fields = {}, by = client) {
  const { output, stopReason, usage } = await by.send(new ConverseCommand(talked(words, fields)));
  return { content: output.message.content, stopReason, usage };
}

async function conversedInPieces(words, fields = {}) {
  const { stream } = await client.send(new ConverseStreamCommand(talked(words, fields)));
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

async function left(words) {
  const { body } = await client.send(new InvokeModelWithResponseStreamCommand(asked(words)));
  for await (const { chunk } of body) {
    const { delta } = JSON.parse(Buffer.from(chunk.bytes).toString());
    if (delta?.text) return delta.text;
  }
}

async function refusal(attempt) {
  try {
    await attempt();
  } catch ({ name, message, $metadata }) {
    return { name, message, status: $metadata?.httpStatusCode };
  }
}

const withPair = (pair) => new BedrockRuntimeClient({ ...place, credentials: { ...credentials, ...pair } });
const bearer = new BedrockRuntimeClient({
  ...place, credentials: undefined, token: { token }, authSchemePreference: ["httpBearerAuth"],
});
const body = Buffer.from(asked("Hi").body);
const { messages } = talked("Hi");
const inputSchema = { json: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } };
const toolConfig = { tools: [{ toolSpec: { name: "weather", description: "The weather of a city.", inputSchema } }] };

const seen = {
  whole: await whole(),
  streamed: await streamed(),
  conversed: await conversed("Hi"),
  conversedInPieces: await conversedInPieces("Hi"),
  called: await conversed("Is it raining?", { toolConfig }),
  calledInPieces: await conversedInPieces("Is it raining?", { toolConfig }),
  bearer: await whole("Hi", {}, bearer),
  byHttp1: await whole("Hi", {}, new BedrockRuntimeClient({ ...place, requestHandler: new NodeHttpHandler() })),
  session: await whole("Hi", {}, withPair({ sessionToken: "opaque/==" })),
  countedOfConverse: (await client.send(new CountTokensCommand({ modelId, input: { converse: { messages } } }))).inputTokens,
  counted: (await client.send(new CountTokensCommand({ modelId, input: { invokeModel: { body } } }))).inputTokens,
  retried: await whole("Good morning", {}, new BedrockRuntimeClient({ ...place, maxAttempts: 3 })),
  left: await left("Tell a long story"),
  models: (await control.send(new ListFoundationModelsCommand({ byProvider: "anthropic" }))).modelSummaries,
  profiles: (await control.send(new ListInferenceProfilesCommand({}))).inferenceProfileSummaries,
  errors: {
    secret: await refusal(() => whole("Hi", {}, withPair({ secretAccessKey: "x" }))),
    unknown: await refusal(() => whole("Hi", {}, withPair({ accessKeyId: "HKIAAAAAAAAAAAAAAAAA" }))),
    too_many: await refusal(() => whole("Hi", { max_tokens: 9000 })),
    too_many_conversed: await refusal(() => conversed("Hi", { inferenceConfig: { maxTokens: 9000 } })),
    overloaded_conversed: await refusal(() => conversedInPieces("Good morning, in pieces")),
    overloaded: await refusal(() => streamed("Good morning, again")),
  },
};
client.destroy();
console.log(JSON.stringify(seen));
