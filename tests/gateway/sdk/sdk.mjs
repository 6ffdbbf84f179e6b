// The vendor's own SDK as the judge of the gateway's wire format: what it parses, retries and refuses is how the real endpoint speaks.
// usage: node sdk.mjs GATEWAY_URL
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";

const url = process.argv[2];
const client = (more = {}) => new Anthropic({ apiKey: "key-of-sdk", baseURL: url, maxRetries: 0, ...more });
const anthropic = client();
let users = 0;
// Every call has a user of its own, so that its calls can be told from others in the log.
const ask = (scenario, more = {}) => ({
  model: scenario === undefined ? "claude-haiku-4-5" : `gw-${scenario}`,
  max_tokens: 256,
  messages: [{ role: "user", content: "Summarise this" }],
  metadata: { user_id: `sdk-${++users}` },
  ...more,
});
const log = async (user = `sdk-${users}`) => {
  const text = await (await fetch(`${url}/gateway/log`)).text();
  return text.split("\n").filter(Boolean).map((line) => JSON.parse(line)).filter((call) => call.user_id === user);
};
const failure = async (promise) => {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  assert.fail("the call did not fail");
};
const text = (message) => message.content.map((block) => block.text ?? "").join("");
const sum = { name: "sum", description: "adds", input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } };

const tests = {
  "a plain message is parsed, whatever the model's name": async () => {
    for (const model of ["claude-haiku-4-5", "gpt-5", "gemini-2.5-flash", "grok-4"]) {
      const message = await anthropic.messages.create(ask(undefined, { model }));
      assert.equal(message.type, "message");
      assert.equal(message.role, "assistant");
      assert.equal(message.model, model);
      assert.equal(message.stop_reason, "end_turn");
      assert.match(text(message), /^Summary \(.*\.$/s);
      assert.match(message._request_id, /^req_/);
      const [call, ...others] = await log();
      assert.equal(others.length, 0);
      assert.deepEqual([call.input_tokens, call.output_tokens], [message.usage.input_tokens, message.usage.output_tokens]);
      assert.notEqual(call.auth, "none");
      assert.notEqual(call.anthropic_version, "");
    }
  },
  "a stream gives the message that its events add up to": async () => {
    let seen = "";
    const message = await anthropic.messages.stream(ask()).on("text", (delta) => (seen += delta)).finalMessage();
    assert.equal(message.stop_reason, "end_turn");
    assert.match(seen, /^Summary \(claude-haiku-4-5\): .*\.$/s);
    assert.equal(text(message), seen);
    const [call] = await log();
    assert.deepEqual([call.stream, call.completed, call.output_tokens, call.input_tokens],
      [true, true, message.usage.output_tokens, message.usage.input_tokens]);
  },
  "the events come in the documented order": async () => {
    const types = [];
    for await (const event of await anthropic.messages.create({ ...ask(), stream: true })) if (types.at(-1) !== event.type) types.push(event.type);
    assert.deepEqual(types, ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"]);
  },
  "x-api-key and a bearer token are both let in": async () => {
    await client({ apiKey: null, authToken: "token" }).messages.create(ask());
    assert.equal((await log())[0].auth, "authorization");
    await client({ apiKey: null, authToken: null, defaultHeaders: { "x-api-key": "key" } }).messages.create(ask());
    assert.equal((await log())[0].auth, "x-api-key");
  },
  "529 twice, then ok: three attempts, plain and streamed": async () => {
    for (const stream of [false, true]) {
      const messages = client({ maxRetries: 2 }).messages;
      const asked = ask("529-twice");
      const message = stream ? await messages.stream(asked).finalMessage() : await messages.create(asked);
      assert.equal(message.stop_reason, "end_turn");
      const calls = await log();
      assert.deepEqual(calls.map((call) => [call.status, call.retry]), [[529, 0], [529, 1], [200, 2]]);
    }
  },
  "retry-after is obeyed": async () => {
    const begin = performance.now();
    await client({ maxRetries: 2 }).messages.create(ask("429-retry-after"));
    assert.deepEqual((await log()).map((call) => call.status), [429, 200]);
    assert.ok(performance.now() - begin >= 990, "one second was asked for");
  },
  "a lasting 500 is tried three times; x-should-retry: false, and a 400, once": async () => {
    await failure(client({ maxRetries: 2 }).messages.create(ask("500")));
    assert.equal((await log()).length, 3);
    await failure(client({ maxRetries: 2 }).messages.create(ask("529-no-retry")));
    assert.equal((await log()).length, 1);
    await failure(client({ maxRetries: 2 }).messages.create(ask("400-parameter")));
    assert.equal((await log()).length, 1);
  },
  "each error is of the SDK's class, with type, message and request id": async () => {
    for (const [scenario, status, type, kind] of [
      ["400-parameter", 400, "invalid_request_error", Anthropic.BadRequestError],
      ["401", 401, "authentication_error", Anthropic.AuthenticationError],
      ["403", 403, "permission_error", Anthropic.PermissionDeniedError],
      ["404", 404, "not_found_error", Anthropic.NotFoundError],
      ["413", 413, "request_too_large", Anthropic.APIError],
      ["429", 429, "rate_limit_error", Anthropic.RateLimitError],
      ["500", 500, "api_error", Anthropic.InternalServerError],
      ["504", 504, "timeout_error", Anthropic.InternalServerError],
      ["529", 529, "overloaded_error", Anthropic.InternalServerError],
    ])
      for (const stream of [false, true]) {
        const error = await failure(anthropic.messages.create({ ...ask(scenario), stream }));
        assert.ok(error instanceof kind, `${scenario}: ${error.constructor.name}`);
        assert.equal(error.status, status);
        assert.equal(error.error.error.type, type);
        assert.equal(error.error.request_id, error.requestID);
        assert.match(error.requestID, /^req_/);
      }
  },
  "metadata with another key than user_id is refused as the vendor does": async () => {
    const error = await failure(anthropic.messages.create(ask("400-metadata", { metadata: { user_id: "u", flag_variant: "variant" } })));
    assert.ok(error instanceof Anthropic.BadRequestError);
    assert.match(error.message, /metadata\.flag_variant: Extra inputs are not permitted/);
    assert.equal((await anthropic.messages.create(ask("400-metadata"))).stop_reason, "end_turn");
  },
  "pings, unknown events, single bytes, gzip: the message is the same as ever": async () => {
    for (const scenario of ["stream-ping", "stream-unknown", "stream-split", "gzip", "slow-body"]) {
      const options = { headers: { "x-gateway-delay-ms": "2" } };
      const streamed = await anthropic.messages.stream(ask(scenario), options).finalMessage();
      const plain = await anthropic.messages.create(ask(scenario), options);
      for (const message of [streamed, plain]) {
        assert.equal(message.stop_reason, "end_turn", scenario);
        assert.match(text(message), /^Summary \(gw-.*\.$/s);
      }
    }
  },
  "an error event after 200 is an APIError of its type": async () => {
    const seen = [];
    const error = await failure((async () => {
      for await (const event of await anthropic.messages.create({ ...ask("stream-error"), stream: true })) seen.push(event.type);
    })());
    assert.ok(error instanceof Anthropic.APIError);
    assert.equal(error.error.error.type, "overloaded_error");
    assert.ok(seen.includes("content_block_delta") && !seen.includes("message_stop"));
    assert.deepEqual((await log()).map((call) => [call.status, call.completed]), [[200, false]]);
    assert.ok((await failure(anthropic.messages.stream(ask("stream-error")).finalMessage())) instanceof Anthropic.APIError);
  },
  "a stream that ends before message_stop has no message; one whose connection closes fails": async () => {
    const types = [];
    for await (const event of await anthropic.messages.create({ ...ask("stream-cut"), stream: true })) types.push(event.type);
    assert.ok(types.includes("content_block_delta") && !types.includes("message_stop"));
    await failure(anthropic.messages.stream(ask("stream-cut")).finalMessage());
    await failure(anthropic.messages.stream(ask("stream-abort")).finalMessage());
    await failure(anthropic.messages.create(ask("stream-abort")));
  },
  "a reset is a connection error, a hang a timeout": async () => {
    assert.ok((await failure(anthropic.messages.create(ask("reset")))) instanceof Anthropic.APIConnectionError);
    assert.deepEqual((await log()).map((call) => [call.status, call.completed]), [[0, false]]);
    const error = await failure(client({ timeout: 300 }).messages.create(ask("hang")));
    assert.ok(error instanceof Anthropic.APIConnectionTimeoutError, error.constructor.name);
  },
  "refusal, max_tokens and broken text are messages": async () => {
    for (const of of [(asked) => anthropic.messages.create(asked), (asked) => anthropic.messages.stream(asked).finalMessage()]) {
      const refused = await of(ask("refusal"));
      assert.deepEqual([refused.stop_reason, refused.stop_details.type, refused.content.length], ["refusal", "refusal", 0]);
      const cut = await of(ask("max-tokens"));
      assert.deepEqual([cut.stop_reason, cut.usage.output_tokens], ["max_tokens", 256]);
      const broken = await of(ask("invalid-json"));
      assert.throws(() => JSON.parse(text(broken)));
    }
    assert.match(String(await failure(client({ logLevel: "off" }).messages.stream(ask("bad-body")).finalMessage())), /JSON|Unexpected|Expected/);
  },
  "usage: late, cached, huge": async () => {
    const late = await anthropic.messages.stream(ask("usage-late")).finalMessage();
    assert.ok(late.usage.input_tokens > 0 && late.usage.output_tokens > 0);
    for (const message of [await anthropic.messages.create(ask("cache-tokens")), await anthropic.messages.stream(ask("cache-tokens")).finalMessage()]) {
      assert.deepEqual([message.usage.cache_creation_input_tokens, message.usage.cache_read_input_tokens], [300, 7000]);
      assert.equal(message.usage.cache_creation.ephemeral_5m_input_tokens, 300);
    }
    const huge = await anthropic.messages.create(ask("huge-usage"));
    assert.equal(huge.usage.output_tokens, 4294967297);
    assert.ok(huge.usage.cache_read_input_tokens > Number.MAX_SAFE_INTEGER);
  },
  "tools are called with an input that fits; a broken one is seen as broken": async () => {
    const plain = await anthropic.messages.create(ask(undefined, { tools: [sum] }));
    const streamed = await anthropic.messages.stream(ask(undefined, { tools: [sum] })).finalMessage();
    for (const message of [plain, streamed]) {
      assert.equal(message.stop_reason, "tool_use");
      const call = message.content.find((block) => block.type === "tool_use");
      assert.equal(call.name, "sum");
      assert.equal(typeof call.input.city, "string");
    }
    const broken = await anthropic.messages.create(ask("broken-tool", { tools: [sum] }));
    assert.deepEqual(broken.content.find((block) => block.type === "tool_use").input, {});
    const answered = await anthropic.messages.create(ask(undefined, {
      tools: [sum],
      messages: [
        { role: "user", content: "Weather?" },
        { role: "assistant", content: plain.content },
        { role: "user", content: [{ type: "tool_result", tool_use_id: plain.content.at(-1).id, content: "rain" }] },
      ],
    }));
    assert.equal(answered.stop_reason, "end_turn");
  },
  "structured output fits the schema that was given": async () => {
    const schema = { type: "object", additionalProperties: false, required: ["mood"], properties: { mood: { type: "string", enum: ["good", "bad"] } } };
    const message = await anthropic.messages.create(ask(undefined, { output_config: { format: { type: "json_schema", schema } } }));
    assert.deepEqual(JSON.parse(text(message)), { mood: "good" });
  },
  "64 calls at once": async () => {
    const all = await Promise.all(Array.from({ length: 64 }, (_, i) =>
      i % 2 ? anthropic.messages.create(ask()) : anthropic.messages.stream(ask()).finalMessage()));
    assert.equal(all.filter((message) => message.stop_reason === "end_turn").length, 64);
  },
};

for (const [name, run] of Object.entries(tests)) {
  console.log(`- ${name}`);
  await run();
}
console.log(`${Object.keys(tests).length} promises held (node ${process.version})`);
process.exit(0);
