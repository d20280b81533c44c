/** A message's life on one log, and a user's own view of it. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import fc from "fast-check";
import { Excerpt, ImClient, type ImClientOptions, type ImError } from "../src/index.js";
import { Timeline } from "../src/timeline.js";
import type { WireMessage } from "../src/wire.js";
import { fakeClock, realClock } from "./clock.js";
import { FakeServer } from "./fake-server.js";

const GROUP = "group_team";
let clock: ReturnType<typeof fakeClock>;
let server: FakeServer;
let calls: { method: string; path: string; query: URLSearchParams; body: unknown }[];
/** Answers calls over HTTP; 404 without one. */
let http: (method: string, path: string) => { status?: number; body: unknown } | undefined;
const clients: ImClient[] = [];

beforeEach(() => {
  clock = fakeClock();
  server = new FakeServer();
  server.room(GROUP, ["ann", "bob"]);
  calls = [];
  http = () => undefined;
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.stop().catch(() => undefined);
  await clock.pass(500);
  realClock();
});

async function connected(userId = "ann", options: Partial<ImClientOptions> = {}): Promise<ImClient> {
  const client = new ImClient({
    url: "http://server",
    webSocket: server.socket,
    userId,
    fetch: async (input, init) => {
      const url = new URL(String(input));
      const method = init?.method ?? "GET";
      const body = init?.body === undefined ? undefined : JSON.parse(String(init.body));
      calls.push({ method, path: url.pathname, query: url.searchParams, body });
      const { status = 200, body: answer } = http(method, url.pathname) ?? { status: 404, body: { message: "no" } };
      return new Response(JSON.stringify(answer), { status });
    },
    ...options,
  });
  clients.push(client);
  const started = client.start();
  await clock.until(() => client.connection.synced);
  await started;
  return client;
}

/** Lets time pass until the promise is settled. */
async function settled<T>(promise: Promise<T>): Promise<T> {
  let isOver = false;
  const end = () => {
    isOver = true;
  };
  promise.then(end, end);
  await clock.until(() => isOver);
  return promise;
}

const commitAll = () => {
  for (let n = 0; n < 50; n++) server.commit();
};
/** A message of bob that is committed. */
const write = (payload: Partial<WireMessage>, sender_id = "bob"): WireMessage => {
  const room = server.room(GROUP);
  const message: WireMessage = {
    msg_id: `w${room.next}`,
    seq: room.next,
    sender_id,
    content: "",
    msg_type: 1,
    send_time: 0,
    ...payload,
  };
  room.next++;
  room.ids.set(`${sender_id} ${message.msg_id}`, { seq: message.seq, state: "accepted" });
  room.queue.push({ message, origin: undefined as never, stored: [] });
  commitAll();
  return message;
};
const event = (payload: object, conversation_id = GROUP) => {
  for (const socket of server.sockets) socket.deliver({ cmd: 7, code: 0, conversation_id, payload });
};

test("edits and reactions of another user are shown live", async () => {
  const conversation = (await connected()).conversation(GROUP);
  const { seq } = write({ content: "first" });
  await clock.until(() => conversation.messages.length === 1);
  write({ msg_type: 4, edit_seq: seq, content: "second", send_time: 7 });
  write({ msg_type: 5, react_seq: seq, reaction: "👍" });
  await clock.until(() => (conversation.messages[0]?.reactions?.length ?? 0) > 0);
  const [message] = conversation.messages;
  assert.deepEqual([message?.content, message?.editedAt], ["second", 7]);
  assert.deepEqual(message?.reactions, [{ reaction: "👍", count: 1, user_ids: ["bob"] }]);
  assert.equal(conversation.unread, 1);
});

test("own edits and reactions are shown once they are stored, and nothing waits any more", async () => {
  const client = await connected();
  const conversation = client.conversation(GROUP);
  const { seq } = write({ content: "first" }, "ann");
  await settled(conversation.open());
  const edited = conversation.edit(seq, { content: "second", mentions: ["bob"] });
  await clock.until(() => server.room(GROUP).queue.length === 1);
  commitAll();
  await settled(edited);
  await clock.until(() => conversation.messages[0]?.content === "second");
  const reacted = conversation.react(seq, "👍");
  await clock.until(() => server.room(GROUP).queue.length === 1);
  commitAll();
  await settled(reacted);
  await clock.until(() => conversation.messages[0]?.reactions?.length === 1);
  assert.deepEqual(conversation.messages[0]?.mentions, ["bob"]);
  const before = server.requests.length;
  await clock.pass(10_000);
  assert.deepEqual(
    server.requests.slice(before).filter(({ cmd }) => cmd === 2 || cmd === 3),
    [],
  );
});

test("a reaction without effect, whose number stays empty, does not wait for ever", async () => {
  const conversation = (await connected()).conversation(GROUP);
  const { seq } = write({ content: "first" });
  write({ msg_type: 5, react_seq: seq, reaction: "👍" }, "ann");
  await settled(conversation.open());
  const reacted = conversation.react(seq, "👍");
  await clock.until(() => server.room(GROUP).queue.length === 1);
  commitAll();
  await settled(reacted);
  await clock.pass(20_000);
  const before = server.requests.length;
  await clock.pass(20_000);
  assert.deepEqual(
    server.requests.slice(before).filter(({ cmd }) => cmd === 2 || cmd === 3),
    [],
  );
  assert.equal(conversation.messages[0]?.reactions?.[0]?.count, 1);
});

test("changes that came before a page was read are not applied again", () => {
  const timeline = new Timeline(GROUP, "ann");
  const users = Array.from({ length: 25 }, (_, n) => `u${n}`);
  const message = (seq: number, more: Partial<WireMessage>): WireMessage => ({
    msg_id: `m${seq}`,
    seq,
    sender_id: "bob",
    content: "",
    msg_type: 1,
    send_time: 0,
    ...more,
  });
  const entries = users.map((sender_id, n) => message(n + 2, { sender_id, msg_type: 5, react_seq: 1, reaction: "+" }));
  const reactions = [{ reaction: "+", count: 25, user_ids: users.slice(0, 20) }];
  timeline._begin(0);
  timeline._forward(0, [message(1, { content: "new", reactions }), ...entries], 26, 26);
  assert.equal(timeline._find(1)?.reactions?.[0]?.count, 25);
  timeline._push([message(27, { sender_id: "u99", msg_type: 5, react_seq: 1, reaction: "+" })]);
  assert.equal(timeline._find(1)?.reactions?.[0]?.count, 26);
});

test("the count of mentions follows edits, recalls and the read position", async () => {
  const conversation = (await connected()).conversation(GROUP);
  await settled(conversation.open());
  const first = write({ content: "hello" });
  const second = write({ content: "@ann", mentions: ["ann"] });
  write({ content: "@all", mentions: ["*"] });
  await clock.until(() => conversation.mentions === 2);
  assert.equal(conversation.mentionSeq, second.seq);
  write({ msg_type: 4, edit_seq: first.seq, content: "hello @ann", mentions: ["ann"] });
  await clock.until(() => conversation.mentions === 3);
  assert.equal(conversation.mentionSeq, first.seq);
  write({ msg_type: 3, recall_seq: second.seq });
  await clock.until(() => conversation.mentions === 2);
  conversation.markRead(first.seq);
  assert.equal(conversation.mentions, 1);
  conversation.markRead();
  assert.deepEqual([conversation.mentions, conversation.mentionSeq], [0, 0]);
});

test("a sync counts mentions in a conversation that is not loaded", async () => {
  write({ content: "@ann", mentions: ["ann"] });
  const conversation = (await connected()).conversation(GROUP);
  assert.deepEqual([conversation.mentions, conversation.mentionSeq], [1, 1]);
});

test("a pin is told as an event", async () => {
  const client = await connected();
  const conversation = client.conversation(GROUP);
  const { seq } = write({ content: "first" });
  await settled(conversation.open());
  const told: unknown[] = [];
  client.on("pin", (pin) => told.push(pin));
  write({ msg_type: 6, pin_seq: seq });
  write({ msg_type: 6, pin_seq: seq, remove: true });
  await clock.until(() => told.length === 2);
  assert.deepEqual(told, [
    { conversationId: GROUP, seq, userId: "bob", pinned: true },
    { conversationId: GROUP, seq, userId: "bob", pinned: false },
  ]);
});

test("settings are shown at once, sent, and taken back if they are refused", async () => {
  write({ content: "first" });
  const conversation = (await connected()).conversation(GROUP);
  http = (method) => (method === "PATCH" ? { body: {} } : undefined);
  const pinned = conversation.configure({ pinned: true, draft: "hel" });
  assert.deepEqual(conversation.settings, { pinned: true, draft: "hel" });
  await settled(pinned);
  assert.deepEqual(calls.at(-1), {
    method: "PATCH",
    path: `/api/conversations/${GROUP}`,
    query: new URLSearchParams({ user_id: "ann" }),
    body: { pinned: true, draft: "hel" },
  });
  await settled(conversation.configure({ draft: null }));
  assert.deepEqual(conversation.settings, { pinned: true });
  http = () => ({ status: 413, body: { code: 413, message: "too long" } });
  await assert.rejects(settled(conversation.configure({ draft: "x" })), (error: ImError) => error.code === 413);
  assert.deepEqual(conversation.settings, { pinned: true });
});

test("settings of a private chat are sent by the other user's name", async () => {
  const client = await connected();
  http = () => ({ body: {} });
  await settled(client.direct("bob/1").configure({ archived: true }));
  const { path, query } = calls.at(-1)!;
  assert.deepEqual([path, query.get("to")], ["/api/conversations/-", "bob/1"]);
});

test("settings of another device arrive as an event", async () => {
  write({ content: "first" });
  const client = await connected();
  const conversation = client.conversation(GROUP);
  const changes: boolean[] = [];
  client.on("change", ({ list }) => changes.push(list));
  event({ type: "settings", settings: { archived: true, draft: "hi" } });
  await clock.until(() => conversation.settings.archived === true);
  assert.equal(conversation.settings.draft, "hi");
  await clock.until(() => changes.includes(true));
  event({ type: "settings", settings: {} });
  await clock.until(() => conversation.settings.archived === undefined);
});

test("a conversation that is marked unread is read by a read position that does not move", async () => {
  write({ content: "first" });
  const conversation = (await connected()).conversation(GROUP);
  conversation.markRead();
  await clock.until(() => server.requests.some(({ cmd }) => cmd === 4));
  // An answer that is on its way would end the mark.
  await clock.pass(1_000);
  http = () => ({ body: {} });
  // The read position has changed the list: a sync says the same as the answer.
  server.settings.set(`ann ${GROUP}`, { marked_unread: true });
  await settled(conversation.configure({ marked_unread: true }));
  await clock.pass(1_000);
  const before = server.requests.length;
  server.settings.clear();
  conversation.markRead();
  assert.deepEqual(conversation.settings, {});
  await clock.until(() => server.requests.slice(before).some(({ cmd }) => cmd === 4));
  // Read on another device.
  await settled(conversation.configure({ marked_unread: true }));
  event({ type: "ack", seq: 1, unread: 0 });
  await clock.until(() => conversation.settings.marked_unread === undefined);
});

test("a cleared conversation leaves the list until the next message", async () => {
  write({ content: "first" });
  const client = await connected();
  const conversation = client.conversation(GROUP);
  await settled(conversation.open());
  assert.deepEqual(client.conversations, [conversation]);
  http = (method) => (method === "DELETE" ? { body: {} } : undefined);
  await settled(conversation.clear());
  assert.deepEqual([client.conversations, conversation.messages, conversation.loaded], [[], [], false]);
  write({ content: "second" });
  await clock.until(() => client.conversations.length === 1);
  assert.deepEqual(
    conversation.messages.map(({ content }) => content),
    ["second"],
  );
  event({ type: "cleared" });
  await clock.until(() => client.conversations.length === 0);
});

test("a clearing names a number: what was pushed before it stays away, what came after it is shown", async () => {
  const first = write({ content: "first" });
  const client = await connected();
  const conversation = client.conversation(GROUP);
  await settled(conversation.open());
  event({ type: "cleared", seq: first.seq });
  await clock.until(() => conversation.messages.length === 0);
  assert.deepEqual([client.conversations, conversation.loaded, conversation.hasOlder], [[], true, false]);
  // A push that was on its way, and a change of what was cleared.
  for (const socket of server.sockets) {
    socket.deliver({ cmd: 5, code: 0, conversation_id: GROUP, payload: [first], next_cursor_seq: first.seq });
  }
  write({ msg_type: 4, edit_seq: first.seq, content: "changed" });
  await clock.pass(1_000);
  assert.deepEqual([client.conversations, conversation.messages], [[], []]);
  const third = write({ content: "third" });
  await clock.until(() => client.conversations.length === 1);
  assert.equal(conversation.unread, 1);
  // The event is late: the third message is newer.
  event({ type: "cleared", seq: third.seq - 1 });
  await clock.pass(1_000);
  assert.deepEqual(
    conversation.messages.map(({ content }) => content),
    ["third"],
  );
  assert.deepEqual([client.conversations.length, conversation.unread], [1, 1]);
});

test("presence is watched by cmd 9, and again after a reconnect", async () => {
  server.intercept = (_, { cmd, payload }) => {
    if (cmd !== 9) return undefined;
    const { user_ids } = payload as { user_ids: string[] };
    return { cmd, code: 0, payload: { users: user_ids.map((user_id) => ({ user_id, online: true })) } };
  };
  const client = await connected();
  const told: unknown[] = [];
  client.on("presence", (presence) => told.push(presence));
  client.watchPresence(["bob"]);
  await clock.until(() => told.length === 1);
  for (const socket of server.sockets) {
    const payload = { type: "presence", user_id: "bob", online: false, last_seen: 5 };
    socket.deliver({ cmd: 7, code: 0, payload });
  }
  await clock.until(() => told.length === 2);
  for (const socket of [...server.sockets]) socket.end(1006, "");
  await clock.until(() => told.length === 3);
  assert.deepEqual(told, [
    { userId: "bob", online: true },
    { userId: "bob", online: false, lastSeen: 5 },
    { userId: "bob", online: true },
  ]);
});

test("one message, its reactions and the pins are asked for by number", async () => {
  const conversation = (await connected()).conversation(GROUP);
  const found = { msg_id: "a", seq: 3, sender_id: "bob", content: "old", msg_type: 1, send_time: 0, edited_at: 9 };
  http = (_, path) => {
    if (path.endsWith("/messages/3")) return { body: found };
    if (path.endsWith("/messages/3/reactions")) return { body: { reactions: [], next_cursor: 8 } };
    return path.endsWith("/pins") ? { body: { messages: [found] } } : undefined;
  };
  assert.equal((await settled(conversation.message(3))).editedAt, 9);
  assert.equal((await settled(conversation.pins()))[0]?.key, "bob a");
  assert.equal((await settled(conversation.reactions(3, 5, 10))).next_cursor, 8);
  assert.deepEqual([...calls.at(-1)!.query].sort(), [
    ["cursor", "5"],
    ["limit", "10"],
    ["user_id", "ann"],
  ]);
  await assert.rejects(settled(conversation.message(4)), (error: ImError) => error.code === 404);
});

test("an excerpt shows what is around a message, follows its changes, and joins the window", async () => {
  for (let n = 1; n <= 300; n++) write({ content: `text ${n}` });
  const conversation = (await connected()).conversation(GROUP);
  await settled(conversation.open());
  assert.equal(conversation.messages[0]?.seq, 251);
  let changes = 0;
  const excerpt = new Excerpt(conversation, () => changes++);
  await settled(excerpt.open(100));
  const seqs = () => excerpt.messages.map(({ seq }) => seq);
  assert.deepEqual([seqs()[0], seqs().at(-1), excerpt.hasOlder, excerpt.hasNewer], [50, 149, true, true]);
  const before = changes;
  write({ msg_type: 4, edit_seq: 100, content: "changed" });
  await clock.until(() => excerpt.messages.find(({ seq }) => seq === 100)?.content === "changed");
  assert.ok(changes > before);
  await settled(excerpt.loadOlder());
  assert.deepEqual([seqs()[0], excerpt.hasOlder], [1, false]);
  while (excerpt.hasNewer) await settled(excerpt.loadNewer());
  assert.equal(excerpt.messages, conversation.messages);
  assert.deepEqual(
    seqs(),
    Array.from({ length: 300 }, (_, n) => n + 1),
  );
  assert.equal(conversation.hasOlder, false);
});

test("an excerpt is shown as it is now, not as its entries left it on the way", async () => {
  for (let n = 1; n <= 60; n++) write({ content: `text ${n}` });
  write({ msg_type: 4, edit_seq: 30, content: "one" });
  for (let n = 0; n < 60; n++) write({ content: "more" });
  write({ msg_type: 4, edit_seq: 30, content: "two" });
  for (let n = 0; n < 60; n++) write({ content: "end" });
  const conversation = (await connected()).conversation(GROUP);
  await settled(conversation.open());
  const excerpt = new Excerpt(conversation);
  await settled(excerpt.open(30, 40));
  const content = () => excerpt.messages.find(({ seq }) => seq === 30)?.content;
  assert.equal(content(), "two");
  assert.ok(excerpt.hasNewer);
});

test("a window that was built of any pages, pushes and pulls is what a fresh pull shows", () => {
  const step = fc.record({
    type: fc.constantFrom(1, 1, 3, 4, 5, 5),
    user: fc.constantFrom("ann", "bob", "eve"),
    target: fc.nat(20),
    reaction: fc.constantFrom("+", "-"),
    remove: fc.boolean(),
    pull: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.nat(60), (steps, pulledAt) => {
      const fake = new FakeServer();
      const room = fake.room(GROUP, []);
      const log: WireMessage[] = [];
      const timeline = new Timeline(GROUP, "ann");
      timeline._begin(0);
      const pull = (): void => {
        const upTo = log.at(-1)?.seq ?? 0;
        const page = room.committed.filter(({ seq }) => seq > timeline.cursor).slice(0, 7);
        timeline._forward(timeline.cursor, structuredClone(page), page.at(-1)?.seq ?? timeline.cursor, upTo);
      };
      for (const [n, step] of steps.entries()) {
        const { user, reaction, remove, pull: pulls } = step;
        const messages = log.filter(({ msg_type }) => msg_type === 1);
        const type = messages.length > 0 ? step.type : 1;
        const to = messages[step.target % Math.max(1, messages.length)]?.seq;
        const seq = room.next++;
        const changes: Record<number, object> = {
          3: { recall_seq: to },
          4: { edit_seq: to },
          5: { react_seq: to, reaction, remove },
        };
        const message: WireMessage = {
          msg_id: `m${seq}`,
          seq,
          sender_id: user,
          content: type === 1 || type === 4 ? `text ${seq}` : "",
          msg_type: type,
          send_time: seq,
          ...changes[type],
        };
        room.ids.set(`${user} m${seq}`, { seq, state: "accepted" });
        room.queue.push({ message: structuredClone(message), origin: undefined as never, stored: [] });
        fake.commit();
        const stored = room.committed.at(-1);
        if (stored?.seq === seq) {
          log.push(stored);
          if (n > pulledAt && !pulls) timeline._push([structuredClone(message)]);
        }
        if (pulls) pull();
      }
      for (let n = 0; n < 20; n++) pull();
      const fresh = new Timeline(GROUP, "ann");
      fresh._begin(0);
      fresh._forward(0, structuredClone(room.committed), room.next, room.next);
      const seen = (one: Timeline) =>
        one.shown.map(({ seq, content, recalled, editedAt, reactions }) => ({
          seq,
          content,
          recalled,
          editedAt: recalled ? undefined : editedAt,
          reactions: (reactions ?? []).map((all) => `${all.reaction} ${all.user_ids.join()}`).sort(),
        }));
      assert.deepEqual(seen(timeline), seen(fresh));
    }),
    { numRuns: 300 },
  );
});
