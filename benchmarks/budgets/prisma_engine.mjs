// Prisma's query engine for LiteLLM's database, where the engine's own binary cannot be downloaded.
//
// The Python client of Prisma starts an executable and speaks GraphQL with it over HTTP on loopback. Prisma publishes the
// same engine (same version) to npm as WebAssembly, with node-postgres below it, but that one is called with Prisma's JSON
// protocol. This file is the piece between: it listens, turns GraphQL into that protocol, and the answers back. Every
// query is planned and turned into SQL by Prisma's engine, and runs on the real PostgreSQL.
//
//   node prisma_engine.mjs [-p PORT] [anything]     $PRISMA_MODULES node_modules, $PRISMA_DML_PATH the schema, $DATABASE_URL

import fs from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";

const modules = process.env.PRISMA_MODULES;
const require = createRequire(path.join(modules, "..", "package.json"));

if (process.argv.includes("--version")) {
  console.log("query-engine " + require("@prisma/engines-version").enginesVersion);
  process.exit(0);
}

const { parse } = require("graphql");
const pg = require("pg");
const { PrismaPg } = require("@prisma/adapter-pg");
const { bindAdapter } = require("@prisma/driver-adapter-utils");

const ACTIONS = [
  "findUnique", "findFirst", "findMany", "createOne", "createMany", "updateOne", "updateMany", "upsertOne", "deleteOne",
  "deleteMany", "aggregate", "groupBy",
];

// Columns of PostgreSQL's own types of names, which LiteLLM reads from pg_views, and which Prisma's adapter for node does not
// know although Prisma's binary does: they are texts.
const NAMES = { 19: 25, 1003: 1009 };

function pool() {
  const made = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 20 });
  const known = pg.Result.prototype.addFields;
  pg.Result.prototype.addFields = function (fields) {
    for (const field of fields) field.dataTypeID = NAMES[field.dataTypeID] ?? field.dataTypeID;
    return known.call(this, fields);
  };
  return made;
}

async function engine() {
  const runtime = path.join(modules, "@prisma/client/runtime/query_engine_bg.postgresql");
  const glue = require(runtime + ".js");
  const module = await WebAssembly.compile(fs.readFileSync(runtime + ".wasm"));
  const instance = await WebAssembly.instantiate(module, { "./query_engine_bg.js": glue });
  glue.__wbg_set_wasm(instance.exports);
  const adapter = bindAdapter(new PrismaPg(pool()));
  const options = {
    datamodel: schema,
    env: process.env, logQueries: false, ignoreEnvVarErrors: true, datasourceOverrides: {}, logLevel: "error",
    configDir: process.cwd(), engineProtocol: "json",
  };
  const made = new glue.QueryEngine(options, () => {}, adapter);
  await made.connect(trace);
  return made;
}

const trace = JSON.stringify({});

// The names of each model's fields that hold JSON: GraphQL has them as strings, the other protocol says that they are not.
function jsonFields(schema) {
  const found = {};
  for (const [, model, body] of schema.matchAll(/^model\s+(\w+)\s*{([\s\S]*?)^}/gm)) {
    found[model] = new Set([...body.matchAll(/^\s*(\w+)\s+Json\b/gm)].map(([, name]) => name));
  }
  return found;
}

// --- GraphQL to the JSON protocol ---------------------------------------------------------------------------------------

function jsonQuery({ query }) {
  const field = parse(query).definitions[0].selectionSet.selections[0];
  const name = field.name.value;
  if (name === "queryRaw" || name === "executeRaw") return { action: name, query: queryOf(field, new Set()) };
  const isStrict = name.endsWith("OrThrow");
  const action = ACTIONS.find((each) => name.startsWith(each));
  const modelName = name.slice(action.length, isStrict ? -"OrThrow".length : undefined);
  return { modelName, action: isStrict ? action + "OrThrow" : action, query: queryOf(field, json[modelName]) };
}

function queryOf(field, json) {
  const selected = field.selectionSet?.selections ?? [];
  const selection = selected.map((each) => [each.name.value, each.selectionSet ? queryOf(each, json) : true]);
  return { arguments: objectOf(field.arguments ?? [], json), selection: Object.fromEntries(selection) };
}

function objectOf(fields, json) {
  return Object.fromEntries(fields.map(({ name, value }) => [
    name.value,
    json.has(name.value) && value.kind === "StringValue" ? { $type: "Json", value: value.value } : valueOf(value, json),
  ]));
}

function valueOf(node, json) {
  switch (node.kind) {
    case "NullValue": return null;
    case "IntValue": return Number.isSafeInteger(Number(node.value)) ? Number(node.value) : { $type: "BigInt", value: node.value };
    case "FloatValue": return Number(node.value);
    case "ListValue": return node.values.map((each) => valueOf(each, json));
    case "ObjectValue": return objectOf(node.fields, json);
    default: return node.value;
  }
}

// --- and the answers back -----------------------------------------------------------------------------------------------

function graphqlAnswer(answer) {
  if (answer.errors) return answer;
  return { data: { result: plain(Object.values(answer.data)[0]) } };
}

// Values of types that JSON has not are {"$type", "value"}; in GraphQL's answers they are their text.
function plain(value) {
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value;
  if ("$type" in value) return value.value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]));
}

// --- HTTP ---------------------------------------------------------------------------------------------------------------

async function answer(engine, method, url, headers, body) {
  const tx = headers["x-transaction-id"];
  if (url === "/status") return { status: "ok" };
  if (url === "/transaction/start") return JSON.parse(await engine.startTransaction(body, trace));
  const end = /^\/transaction\/([^/]+)\/(commit|rollback)$/.exec(url);
  if (end) return JSON.parse(await engine[end[2] + "Transaction"](end[1], trace));
  if (method !== "POST" || url !== "/") return {};
  const asked = JSON.parse(body);
  if (!asked.batch) return graphqlAnswer(JSON.parse(await engine.query(JSON.stringify(jsonQuery(asked)), trace, tx)));
  const batch = { batch: asked.batch.map(jsonQuery), transaction: asked.transaction ? {} : undefined };
  const answered = JSON.parse(await engine.query(JSON.stringify(batch), trace, tx));
  return answered.errors ? answered : { batchResult: answered.batchResult.map(graphqlAnswer) };
}

const schema = fs.readFileSync(process.env.PRISMA_DML_PATH, "utf8");
const json = jsonFields(schema);
const running = await engine();
const server = http.createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", async () => {
    const body = Buffer.concat(chunks).toString();
    let said;
    try {
      said = await answer(running, request.method, request.url, request.headers, body);
    } catch (error) {
      said = { errors: [{ error: String(error), user_facing_error: { message: String(error), meta: {} } }] };
    }
    if (said.errors) console.error("prisma_engine: " + JSON.stringify(said.errors).slice(0, 600) + " of " + body.slice(0, 600));
    response.writeHead(200, { "Content-Type": "application/json" });
    response.end(JSON.stringify(said));
  });
});
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[process.argv.indexOf("-p") + 1]), "localhost");
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
