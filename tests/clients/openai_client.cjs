// OpenAI's JavaScript SDK, unmodified: a JSON line for each case, in the order in which they are asked.

const OpenAI = require("openai");

const { STOKER_URL: baseURL, STOKER_KEY, STOKER_SPENT_KEY, STOKER_MONTH_KEY } = process.env;
const QUESTION = "What is 6 times 7?";
const CHAT = { model: "general", messages: [{ role: "user", content: QUESTION }], temperature: 0 };
const COMPLETION = { model: "general", prompt: "one two three", max_tokens: 6, temperature: 0 };
const RESPONSE = { model: "general", input: QUESTION, temperature: 0 };

const withKey = (apiKey) => new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 60_000 });
const say = (name, said) => console.log(JSON.stringify({ case: name, ...said }));

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

async function refused(name, asked) {
  try {
    await asked();
    say(name, { class: null });
  } catch (error) {
    say(name, { class: error.constructor.name, status: error.status, code: error.code });
  }
}

async function batches(client) {
  const line = { custom_id: "a", method: "POST", url: "/v1/chat/completions", body: CHAT };
  const content = Buffer.from(JSON.stringify(line));
  const file = await client.files.create({
    file: await OpenAI.toFile(content, "größe.jsonl"),
    purpose: "batch",
  });
  const again = await client.files.retrieve(file.id);
  let batch = await client.batches.create({
    input_file_id: file.id,
    endpoint: "/v1/chat/completions",
    completion_window: "24h",
    metadata: { job: "nightly" },
  });
  const first = batch.status;
  while (["validating", "in_progress", "finalizing"].includes(batch.status)) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    batch = await client.batches.retrieve(batch.id);
  }
  const output = await client.files.content(batch.output_file_id);
  const answer = JSON.parse(await output.text()).response.body;
  say("chat batch", {
    text: answer.choices[0].message.content,
    usage: [answer.usage.prompt_tokens, answer.usage.completion_tokens],
  });

  let faulty = await client.batches.create({
    input_file_id: file.id,
    endpoint: "/v1/embeddings",
    completion_window: "24h",
  });
  while ((faulty = await client.batches.retrieve(faulty.id)).status === "validating") {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const files = (await collect(client.files.list({ limit: 1 }))).map((each) => each.id);
  const listed = (await collect(client.batches.list({ limit: 1 }))).map((each) => each.id);
  const purposes = (await collect(client.files.list({ purpose: "batch" }))).map((each) => each.id);
  await refused("a batch that has ended", () => client.batches.cancel(batch.id));
  const deleted = await client.files.delete(file.id);
  await refused("a file that is gone", () => client.files.content(file.id));
  await refused("an unknown batch", () => client.batches.retrieve("batch_nobody"));
  const told = {
    file: [
      file.object,
      file.filename,
      file.purpose,
      file.bytes === content.length,
      JSON.stringify(again) === JSON.stringify(file),
    ],
    begin: first,
    end: [batch.status, batch.metadata, batch.request_counts.total, batch.request_counts.completed],
    fault: [faulty.status, faulty.errors.data.map((each) => each.code)],
    files: [files.length, files.includes(file.id) && files.includes(batch.output_file_id)],
    batches: JSON.stringify(listed) === JSON.stringify([faulty.id, batch.id]),
    purposes: JSON.stringify(purposes) === JSON.stringify([file.id]),
    deleted: [deleted.deleted, deleted.id === file.id],
  };
  say("files and batches", { told });
}

async function main() {
  const client = withKey(STOKER_KEY);

  const chat = await client.chat.completions.create(CHAT);
  say("chat", {
    text: chat.choices[0].message.content,
    usage: [chat.usage.prompt_tokens, chat.usage.completion_tokens],
  });

  const chatChunks = await collect(
    await client.chat.completions.create({ ...CHAT, stream: true, stream_options: { include_usage: true } }),
  );
  const chatUsage = chatChunks.at(-1).usage;
  say("chat stream", {
    text: chatChunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""),
    usage: [chatUsage.prompt_tokens, chatUsage.completion_tokens],
  });

  const completion = await client.completions.create(COMPLETION);
  say("completion", {
    text: completion.choices[0].text,
    usage: [completion.usage.prompt_tokens, completion.usage.completion_tokens],
  });

  const completionChunks = await collect(
    await client.completions.create({ ...COMPLETION, stream: true, stream_options: { include_usage: true } }),
  );
  const completionUsage = completionChunks.at(-1).usage;
  say("completion stream", {
    text: completionChunks.map((chunk) => chunk.choices[0]?.text ?? "").join(""),
    usage: [completionUsage.prompt_tokens, completionUsage.completion_tokens],
  });

  const response = await client.responses.create(RESPONSE);
  say("response", {
    text: response.output_text,
    usage: [response.usage.input_tokens, response.usage.output_tokens],
  });

  // The SDK's own accumulator, which is strict about the order of events.
  const stream = client.responses.stream(RESPONSE);
  const events = await collect(stream);
  const final = await stream.finalResponse();
  say("response stream", {
    text: final.output_text,
    deltas: events.map((event) => (event.type === "response.output_text.delta" ? event.delta : "")).join(""),
    usage: [final.usage.input_tokens, final.usage.output_tokens],
  });

  // It asks for base64 and decodes it, unless told otherwise.
  const embeddings = await client.embeddings.create({ model: "general", input: ["A fox is an animal.", "one two three"] });
  say("embeddings", {
    vectors: embeddings.data.map((each) => each.embedding),
    usage: [embeddings.usage.prompt_tokens, 0],
  });

  say("models", { ids: (await collect(client.models.list())).map((model) => model.id) });
  say("model", { ids: [(await client.models.retrieve("general")).id] });

  await batches(client);

  await refused("wrong key", () => withKey("sk-stoker-nobody").chat.completions.create(CHAT));
  await refused("unknown model", () => client.chat.completions.create({ ...CHAT, model: "nothing" }));
  await refused("unknown model to retrieve", () => client.models.retrieve("nothing"));
  await refused("budget that does not renew", () => withKey(STOKER_SPENT_KEY).chat.completions.create(CHAT));
  await refused("budget of a month", () => withKey(STOKER_MONTH_KEY).chat.completions.create(CHAT));
  await refused("a refused stream", () => withKey(STOKER_SPENT_KEY).chat.completions.create({ ...CHAT, stream: true }));
}

main();
