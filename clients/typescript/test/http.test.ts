import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, test } from "node:test";
import { ImClient, type ImError, login, Push, register } from "../src/index.js";

interface Call {
  method: string;
  url: string;
  authorization: string | undefined;
  body: string;
}

let server: Server;
let url: string;
let calls: Call[];
let answer: (call: Call) => { status?: number; body: unknown };

beforeEach(async () => {
  calls = [];
  server = createServer(async (request: IncomingMessage, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const call = {
      method: request.method ?? "",
      url: request.url ?? "",
      authorization: request.headers.authorization,
      body,
    };
    calls.push(call);
    const { status = 200, body: sent } = answer(call);
    response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(sent));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterEach(() => server.close());

test("calls name the user by token or by name, and encode ids", async () => {
  answer = () => ({ body: {} });
  await new ImClient({ url, token: () => "secret" }).groups.remove("group_a b", "x/y");
  await new ImClient({ url, userId: "ann" }).groups.members("group_a", "bob", 10);
  assert.deepEqual(
    calls.map((call) => [call.method, call.url, call.authorization]),
    [
      ["DELETE", "/api/groups/group_a%20b/members/x%2Fy", "Bearer secret"],
      ["GET", "/api/groups/group_a/members?cursor=bob&limit=10&user_id=ann", undefined],
    ],
  );
});

test("a refusal has the server's code and sentence, and an expired token is replaced once", async () => {
  const tokens = ["old", "new"];
  answer = (call) =>
    call.authorization === "Bearer new"
      ? { status: 403, body: { code: 403, message: "only the owner dismisses a group" } }
      : { status: 401, body: { code: 401, message: "the token has expired" } };
  const client = new ImClient({ url, token: () => tokens.shift() ?? "new" });
  await assert.rejects(client.groups.dismiss("group_a"), (error: ImError) => {
    assert.deepEqual([error.code, error.message], [403, "only the owner dismisses a group"]);
    return true;
  });
  assert.equal(calls.length, 2);
});

test("push subscriptions are added as the browser has them, listed and removed", async () => {
  const keys = { p256dh: "BPoint", auth: "secret" };
  const entry = { id: "s 1", kind: "webpush", endpoint_host: "push.example", created_at: 1 };
  answer = ({ method, url: path }) => {
    if (path.startsWith("/api/push/config")) {
      return { body: { enabled: true, services: ["webpush"], vapid_public_key: "BKey" } };
    }
    return { body: method === "POST" ? { id: "s 1" } : method === "GET" ? { subscriptions: [entry] } : {} };
  };
  const push = new Push(new ImClient({ url, token: () => "secret" }));
  assert.equal((await push.config()).vapid_public_key, "BKey");
  const endpoint = "https://push.example/1";
  assert.deepEqual(await push.subscribe({ endpoint, expirationTime: null, keys }), { id: "s 1" });
  assert.deepEqual(await push.list(), [entry]);
  await push.unsubscribe("s 1");
  assert.deepEqual(
    calls.map((call) => `${call.method} ${call.url}`),
    [
      "GET /api/push/config",
      "POST /api/push/subscriptions",
      "GET /api/push/subscriptions",
      "DELETE /api/push/subscriptions/s%201",
    ],
  );
  assert.deepEqual(JSON.parse(calls[1]!.body), { endpoint, expirationTime: null, keys, kind: "webpush" });
  answer = () => ({ status: 404, body: { code: 404, message: "there is no push here" } });
  await assert.rejects(push.config(), (error: ImError) => error.code === 404);
});

test("429 is obeyed for all calls, 503 only for those that may be done twice", async () => {
  answer = ({ method }) =>
    calls.length === 1
      ? { status: 429, body: { code: 429, message: "too fast", retry_after_ms: 300 } }
      : {
          status: method === "GET" && calls.length > 2 ? 200 : 503,
          body: { message: "overloaded", retry_after_ms: 50 },
        };
  const client = new ImClient({ url, userId: "ann" });
  const begun = Date.now();
  await assert.rejects(client.groups.create({ name: "Team" }), (error: ImError) => error.code === 503);
  assert.ok(Date.now() - begun >= 300);
  assert.equal(calls.length, 2);
  calls = [];
  await client.blocks.list();
  assert.equal(calls.length, 3);
});

test("profiles are asked for together, once, and kept", async () => {
  answer = (call) => {
    const ids = new URL(call.url, url).searchParams.get("user_ids")!.split(",");
    return {
      body: { users: ids.filter((id) => id !== "nobody").map((id) => ({ user_id: id, nickname: id.toUpperCase() })) },
    };
  };
  const { profiles } = new ImClient({ url, userId: "ann" });
  const all = Array.from({ length: 150 }, (_, n) => `u${n}`);
  const [many, two] = await Promise.all([profiles.get(all), profiles.get(["u1", "nobody"])]);
  assert.equal(many.size, 150);
  assert.deepEqual([...two.keys()], ["u1"]);
  assert.equal(calls.length, 3, "two pages, and the one that was missing");
  await profiles.get(["u7", "nobody"]);
  assert.equal(calls.length, 3);
  assert.equal(profiles.peek("u7")?.nickname, "U7");
  profiles.forget("u7");
  await profiles.get(["u7"]);
  assert.equal(calls.length, 4);
});

test("a failed call for profiles is not kept", async () => {
  let fails = true;
  answer = () => (fails ? { status: 403, body: { message: "no" } } : { body: { users: [] } });
  const { profiles } = new ImClient({ url, userId: "ann" });
  await assert.rejects(profiles.get(["bob"]));
  fails = false;
  assert.equal((await profiles.get(["bob"])).size, 0);
});

test("accounts", async () => {
  answer = (call) => ({ body: { token: call.url, expires_at: 1 } });
  assert.equal((await register(url, { user_id: "ann", password: "correct horse" })).token, "/api/register");
  assert.equal((await login(`${url.replace("http", "ws")}/ws`, { user_id: "ann", password: "x" })).token, "/api/login");
  assert.deepEqual(JSON.parse(calls[0]!.body), { user_id: "ann", password: "correct horse" });
  assert.equal(calls[0]!.authorization, undefined);
});
