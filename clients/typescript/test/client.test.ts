/** The client on a server in memory: what the simulation does not look at one by one. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { ImClient, type ImClientOptions, type ImError, MemoryStore } from "../src/index.js";
import { fakeClock, realClock } from "./clock.js";
import { FakeServer, noHttp } from "./fake-server.js";

const GROUP = "group_team";
let clock: ReturnType<typeof fakeClock>;
let server: FakeServer;
const clients: ImClient[] = [];

beforeEach(() => {
  clock = fakeClock();
  server = new FakeServer();
  server.room(GROUP, ["ann", "bob"]);
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.stop().catch(() => undefined);
  await clock.pass(500);
  realClock();
});

function make(options: Partial<ImClientOptions>): ImClient {
  const client = new ImClient({ url: "http://server", webSocket: server.socket, fetch: noHttp, ...options });
  clients.push(client);
  return client;
}

async function connected(options: Partial<ImClientOptions> = { userId: "ann" }): Promise<ImClient> {
  const client = make(options);
  const started = client.start();
  await clock.until(() => client.connection.synced);
  await started;
  return client;
}

const socket = () => [...server.sockets][0]!;
const commands = (cmd: number) => server.requests.filter((request) => request.cmd === cmd);
const commitAll = () => {
  for (let n = 0; n < 50; n++) server.commit();
};

test("a token that expires is exchanged on the live connection", async () => {
  const reasons: string[] = [];
  const client = await connected({
    token: (reason) => {
      reasons.push(reason);
      return "ann";
    },
  });
  const before = socket();
  before.deliver({ cmd: 7, code: 0, payload: { type: "token_expiring", expires_at: Date.now() + 60_000 } });
  await clock.until(() => commands(1).length === 2);
  assert.deepEqual(reasons, ["login", "expiring"]);
  assert.equal(socket(), before);
  assert.equal(client.connection.status, "online");
});

test("a provider that fails is called again, and the connection goes on meanwhile", async () => {
  let fails = false;
  const client = await connected({
    token: () => {
      if (fails) throw new Error("offline");
      return "ann";
    },
  });
  const errors: Error[] = [];
  client.on("error", (error) => errors.push(error));
  fails = true;
  socket().deliver({ cmd: 7, code: 0, payload: { type: "token_expiring", expires_at: Date.now() + 60_000 } });
  await clock.until(() => errors.length === 2);
  assert.equal(client.connection.status, "online");
  fails = false;
  await clock.until(() => commands(1).length === 2);
});

test("a refused token is replaced at once, and again only after delays", async () => {
  const reasons: string[] = [];
  server.intercept = (_, request) =>
    request.cmd === 1 && (request.payload as { token: string }).token !== "ann"
      ? { cmd: 1, code: 401, payload: "the token has expired" }
      : undefined;
  const client = make({
    token: (reason) => (reasons.push(reason) < 4 ? `bad ${reasons.length}` : "ann"),
  });
  const started = client.start();
  await clock.until(() => reasons.length === 2, 1_000);
  await clock.until(() => client.connection.synced, 10_000);
  assert.deepEqual(reasons, ["login", "refused", "refused", "refused"]);
  await started;
});

test("a provider that returns null ends the session", async () => {
  const client = make({ token: () => null });
  await assert.rejects(client.start(), (error: ImError) => error.code === 401);
  assert.equal(client.connection.status, "stopped");
});

test("an answer of 401 leads to a login with a new token", async () => {
  const reasons: string[] = [];
  const client = await connected({
    token: (reason) => {
      reasons.push(reason);
      return "ann";
    },
  });
  server.intercept = (_, { cmd }) =>
    cmd === 2 && reasons.length === 1 ? { cmd, code: 401, payload: "no" } : undefined;
  client.conversation(GROUP).send("hello");
  await clock.until(() => client.conversation(GROUP).messages[0]?.state === "accepted");
  assert.deepEqual(reasons, ["login", "refused"]);
});

test("what the app replaced is shown as soon as the message is accepted", async () => {
  const client = await connected();
  server.intercept = (_, { cmd, msg_id = "" }) =>
    cmd === 2
      ? { cmd, code: 0, msg_id, conversation_id: GROUP, seq: 1, payload: { replaced: true, content: "****" } }
      : undefined;
  const sent = client.conversation(GROUP).send("darn");
  assert.equal(client.conversation(GROUP).messages[0]?.content, "darn");
  let accepted = false;
  void sent.accepted().then(() => {
    accepted = true;
  });
  await clock.until(() => accepted);
  assert.equal(commands(3).length, 0, "no pull was needed");
  assert.equal(sent.message.content, "****");
  assert.equal(client.conversation(GROUP).messages[0]?.content, "****");
  assert.equal(client.conversation(GROUP).lastMessage?.content, "****");
});

for (const code of [1002, 1007, 4400, 4403, 4409, 4429]) {
  test(`after ${code} the client does not reconnect`, async () => {
    const client = await connected();
    const before = server.requests.length;
    socket().end(code, "the reason");
    await clock.pass(120_000);
    assert.deepEqual(client.connection.reason, { code, message: "the reason" });
    assert.equal(client.connection.status, "stopped");
    assert.equal(server.requests.length, before);
  });
}

test("after 1012 the client waits as long as the server asks for", async () => {
  const client = await connected();
  socket().end(1012, "retry_after_ms=7000");
  await clock.pass(6_900);
  assert.equal(server.sockets.size, 0);
  assert.equal(client.connection.status, "waiting");
  await clock.until(() => client.connection.synced, 2_000);
});

test("a request that is not answered ends the connection, and a new one is made", async () => {
  const client = await connected();
  const before = socket();
  server.intercept = (one) => (one === before ? "silence" : undefined);
  await clock.until(() => server.sockets.size === 1 && socket() !== before && client.connection.synced, 90_000);
});

test("a message that was refused for overload is sent again with the same id after the delay, before later ones", async () => {
  const client = await connected();
  let refusals = 2;
  server.intercept = (_, { cmd, msg_id, conversation_id }) => {
    if (cmd !== 2 || refusals-- <= 0) return undefined;
    const payload = { message: "too fast", retry_after_ms: 800 };
    return { cmd, code: 429, ...(msg_id && { msg_id }), ...(conversation_id && { conversation_id }), payload };
  };
  const chat = client.conversation(GROUP);
  const ids = ["one", "two"].map((text) => chat.send(text).message.msgId);
  await clock.pass(700);
  assert.deepEqual(
    commands(2).map((one) => one.msg_id),
    [ids[0]],
  );
  await clock.until(() => commands(2).length === 4);
  assert.deepEqual(
    commands(2).map((one) => one.msg_id),
    [ids[0], ids[0], ids[0], ids[1]],
  );
  commitAll();
  await clock.until(() => chat.messages.every((one) => one.state === "stored"));
});

test("the loss of the last push is noticed with the next heartbeat", async () => {
  const ann = await connected();
  const bob = await connected({ userId: "bob" });
  ann.conversation(GROUP).open();
  await clock.pass(5_000);
  server.faults = { ...server.faults, push: 1 };
  bob.conversation(GROUP).send("lost");
  await clock.until(() => commands(2).length === 1);
  commitAll();
  await clock.until(() => ann.conversation(GROUP).messages.length === 1, 31_000);
  assert.equal(ann.conversation(GROUP).unread, 1);
});

test("after a resync, what was missed is pulled", async () => {
  const ann = await connected();
  const bob = await connected({ userId: "bob" });
  await clock.pass(5_000);
  void ann.conversation(GROUP).open();
  await clock.pass(1_000);
  server.faults = { ...server.faults, push: 1 };
  bob.conversation(GROUP).send("lost");
  await clock.until(() => commands(2).length === 1);
  commitAll();
  server.to("ann", { cmd: 7, code: 0, payload: { type: "resync" } });
  await clock.until(() => ann.conversation(GROUP).messages.length === 1, 1_000);
});

test("a complete list replaces what was known", async () => {
  const store = new MemoryStore();
  const client = await connected({ userId: "ann", store });
  server.room("group_old", ["ann", "bob"]);
  const bob = await connected({ userId: "bob" });
  for (const id of [GROUP, "group_old"]) bob.conversation(id).send("hello");
  await clock.until(() => commands(2).length === 2);
  commitAll();
  await clock.until(() => client.conversations.length === 2);
  const kept = client.conversation("group_old");
  server.inbox.get("ann")!.delete("group_old");
  server.intercept = (one, request) => {
    if (one.user !== "ann" || request.cmd !== 6) return undefined;
    return { ...server.handle(one, { ...request, cursor_seq: 0 })!, reset: true };
  };
  socket().end(1006, "");
  await clock.until(() => client.connection.synced);
  assert.deepEqual(
    client.conversations.map((one) => one.id),
    [GROUP],
  );
  assert.equal(client.conversation("group_old"), kept, "the object of a conversation stays");
  assert.deepEqual(kept.messages, []);
  await clock.pass(1_000);
  assert.equal((await store.load()).has(`c group_old`), false);
});

test("a store of another user is left alone", async () => {
  const store = new MemoryStore();
  const first = await connected({ userId: "ann", store });
  first.conversation(GROUP).send("mine");
  await clock.pass(500);
  await assert.rejects(make({ userId: "bob", store }).start(), (error: ImError) => error.code === 403);
  const byToken = make({ token: () => "bob", store });
  await byToken.start();
  await clock.until(() => byToken.connection.status === "stopped");
  assert.equal(byToken.connection.reason?.code, 403);
  assert.ok(
    !server.requests.some((one) => one.cmd === 2 && one.msg_id !== first.conversation(GROUP).messages[0]?.msgId),
  );
});

test("a frame over 64 KiB is refused here", async () => {
  const client = await connected();
  assert.throws(() => client.conversation(GROUP).send({ content: "x", meta: "x".repeat(65_536) }), /64 KiB/);
  assert.equal(client.conversation(GROUP).messages.length, 0);
});

test("an accepted message whose refusal was missed is asked for after a reconnect", async () => {
  const client = await connected();
  const chat = client.conversation(GROUP);
  const sent = chat.send("hello");
  await clock.until(() => chat.messages[0]?.state === "accepted");
  // Refused at the commit, while the client is away.
  socket().end(1006, "");
  server.room(GROUP).queue.length = 0;
  server.intercept = (_, { cmd, msg_id, conversation_id }) =>
    cmd === 2
      ? { cmd, code: 403, ...(msg_id && { msg_id }), ...(conversation_id && { conversation_id }), payload: "muted" }
      : undefined;
  await clock.until(() => chat.messages[0]?.state === "failed", 30_000);
  await assert.rejects(sent.stored(), (error: ImError) => error.code === 403);
});

test("a thousand pushes in a moment are a few changes", async () => {
  const ann = await connected();
  await clock.pass(3_000);
  let changes = 0;
  ann.on("change", () => changes++);
  for (let seq = 1; seq <= 1_000; seq++) {
    const message = { msg_id: `m${seq}`, seq, sender_id: "bob", content: "x", msg_type: 1, send_time: 0 };
    socket().deliver({ cmd: 5, code: 0, conversation_id: GROUP, payload: [message], next_cursor_seq: seq });
  }
  await clock.until(() => ann.conversation(GROUP).messages.length === 1_000);
  await clock.pass(100);
  assert.ok(changes <= 700, `${changes} changes`);
});

test("an iterator ends when it is left, and a listener that is removed is not called", async () => {
  const client = await connected();
  const states = client.events("connection");
  let calls = 0;
  const off = client.on("connection", () => calls++);
  off();
  socket().end(1006, "");
  await clock.pass(100);
  const { value } = await states.next();
  assert.equal(value?.type, "connection");
  await states.return?.();
  assert.equal((await states.next()).done, true);
  assert.equal(calls, 0);
});

test("a read position that waits for the one before goes out when the client stops", async () => {
  const client = await connected();
  const chat = client.conversation(GROUP);
  const arrive = (seq: number) => {
    const message = { msg_id: `m${seq}`, seq, sender_id: "bob", content: "x", msg_type: 1, send_time: 0 };
    socket().deliver({ cmd: 5, code: 0, conversation_id: GROUP, payload: [message], next_cursor_seq: seq });
  };
  arrive(1);
  await clock.until(() => chat.lastSeq === 1);
  chat.markRead();
  arrive(2);
  await clock.until(() => chat.lastSeq === 2);
  chat.markRead();
  const sent: string[] = [];
  socket().send = (text: string) => sent.push(text);
  await client.stop();
  assert.deepEqual(
    sent.map((text) => JSON.parse(text).cursor_seq),
    [2],
  );
});

test("when the page is hidden, the store is written although an earlier write is unfinished", async () => {
  const page = new EventTarget();
  Object.assign(globalThis, {
    addEventListener: page.addEventListener.bind(page),
    removeEventListener: page.removeEventListener.bind(page),
  });
  try {
    const written: ReadonlyMap<string, unknown>[] = [];
    let end = () => {};
    const store = {
      load: async () => new Map<string, unknown>(),
      write: (records: ReadonlyMap<string, unknown>) => {
        written.push(records);
        return new Promise<void>((resolve) => {
          end = resolve;
        });
      },
    };
    const client = await connected({ userId: "ann", store });
    const message = { msg_id: "m1", seq: 1, sender_id: "bob", content: "x", msg_type: 1, send_time: 0 };
    socket().deliver({ cmd: 5, code: 0, conversation_id: GROUP, payload: [message], next_cursor_seq: 1 });
    await clock.until(() => client.conversation(GROUP).lastSeq === 1 && written.length > 0);
    const before = written.length;
    client.conversation(GROUP).markRead();
    page.dispatchEvent(new Event("pagehide"));
    await clock.pass(0);
    assert.equal(written.length, before + 1);
    const kept = written.at(-1)?.get(`c ${GROUP}`) as { info: { readSeq: number } };
    assert.equal(kept.info.readSeq, 1);
    end();
  } finally {
    Reflect.deleteProperty(globalThis, "addEventListener");
    Reflect.deleteProperty(globalThis, "removeEventListener");
  }
});
