/** The promises of the protocol, one by one, against real gateways. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { ImError, MemoryStore, type Message } from "../../src/index.js";
import { brief, CountedSocket, client, control, cut, fresh, history, token, until } from "./stage.js";

const timeout = 60_000;

test("a message goes from sending to accepted to stored, and arrives once", { timeout }, async () => {
  const [ann, bob] = [client(fresh("ann")), client(fresh("bob"))];
  await ann.start();
  await bob.start();
  const states: string[] = [];
  ann.on("sent", (message) => states.push(message.state));
  const got: Message[] = [];
  bob.on("message", (message) => got.push(message));
  await until("bob is online", () => bob.connection.status === "online");
  const chat = ann.direct(bob.userId);
  const sent = chat.send("hello");
  assert.equal(chat.messages[0]?.state, "sending");
  const { seq } = await sent.accepted();
  const stored = await sent.stored();
  assert.equal(stored.seq, seq);
  assert.deepEqual(states, ["sending", "accepted", "stored"]);
  await until("bob has it", () => got.length === 1);
  assert.equal(got[0]!.content, "hello");
  assert.deepEqual(brief(bob.direct(ann.userId).messages), brief(chat.messages));
  assert.equal(bob.direct(ann.userId).unread, 1);
  assert.equal(bob.conversations[0]?.peer, ann.userId);
  await ann.stop();
  await bob.stop();
});

test("unsent messages survive a reload and keep their order", { timeout }, async () => {
  const store = new MemoryStore();
  const [ann, bob] = [fresh("ann"), fresh("bob")];
  const first = client(ann, { store, url: "ws://127.0.0.1:9/ws" });
  await first.start();
  for (let n = 0; n < 20; n++) first.direct(bob).send(`message ${n}`);
  await first.stop();
  const second = client(ann, { store });
  await second.start();
  const chat = second.direct(bob);
  assert.deepEqual(
    chat.messages.map((message) => message.state),
    Array(20).fill("sending"),
  );
  await until("all are stored", () => chat.messages.every((message) => message.state === "stored"));
  const expected = Array.from({ length: 20 }, (_, n) => `message ${n}`);
  assert.deepEqual(
    chat.messages.map((message) => message.content),
    expected,
  );
  assert.deepEqual(
    (await history(second, chat.id)).map((message) => message.content),
    expected,
  );
  await second.stop();
});

test("a recalled message shows as recalled, also from a store", { timeout }, async () => {
  const [ann, name] = [client(fresh("ann")), fresh("bob")];
  const store = new MemoryStore();
  const bob = client(name, { store });
  await ann.start();
  await bob.start();
  const stored = await ann.direct(name).send("a secret").stored();
  await bob.direct(ann.userId).open();
  await until("bob shows it", () => bob.direct(ann.userId).messages[0]?.content === "a secret");
  await bob.stop();
  await ann.direct(name).recall(stored.seq);
  await until("ann shows the recall", () => ann.direct(name).messages[0]?.recalled === true);
  const again = client(name, { store });
  await again.start();
  const chat = again.direct(ann.userId);
  assert.equal(chat.messages[0]?.content, "a secret", "from the store");
  await until("bob shows the recall", () => chat.messages[0]?.recalled === true);
  assert.equal(chat.messages[0]?.content, "");
  await until("and in the list", () => again.conversations[0]?.lastMessage?.content !== "a secret");
  await ann.stop();
  await again.stop();
});

test("read positions, receipts and unread counts are the same on all devices", { timeout }, async () => {
  const ann = client(fresh("ann"));
  const name = fresh("bob");
  const [phone, laptop] = [client(name), client(name)];
  for (const one of [ann, phone, laptop]) await one.start();
  for (const one of [phone, laptop]) await until("online", () => one.connection.synced);
  const read: number[] = [];
  ann.on("read", (event) => read.push(event.seq));
  const last = await Promise.all(["one", "two", "three"].map((text) => ann.direct(name).send(text).stored()));
  const { seq } = last.at(-1)!;
  for (const one of [phone, laptop]) await until("three are unread", () => one.direct(ann.userId).unread === 3);
  phone.direct(ann.userId).markRead(last[0]!.seq);
  await until("two are unread", () => [phone, laptop].every((one) => one.direct(ann.userId).unread === 2));
  phone.direct(ann.userId).markRead();
  await until("none is unread", () => [phone, laptop].every((one) => one.direct(ann.userId).unread === 0));
  await until("ann sees it", () => ann.direct(name).peerReadSeq === seq && read.at(-1) === seq);
  let typing = 0;
  ann.on("typing", () => typing++);
  laptop.direct(ann.userId).typing();
  laptop.direct(ann.userId).typing();
  await until("ann sees who types", () => typing === 1);
  const { positions } = await ann.direct(name).positions();
  assert.equal(positions.find((one) => one.user_id === name)?.seq, seq);
  for (const one of [ann, phone, laptop]) await one.stop();
});

test("a refused message says why, and what is refused after code 0 is taken back", { timeout }, async () => {
  const [ann, bob] = [client(fresh("ann")), client(fresh("bob"))];
  await ann.start();
  await bob.start();
  await bob.blocks.add(ann.userId);
  const chat = ann.direct(bob.userId);
  const sent = chat.send("hello");
  await assert.rejects(sent.stored(), (error: ImError) => error.code === 403);
  assert.equal(chat.messages[0]?.state, "failed");
  assert.equal(chat.messages[0]?.error?.code, 403);
  await bob.blocks.remove(ann.userId);
  await chat.retry(sent.message.msgId).stored();
  assert.deepEqual(
    chat.messages.map((message) => message.state),
    ["stored"],
  );
  await assert.rejects(chat.send("x".repeat(4_097)).accepted(), (error: ImError) => error.code === 413);
  chat.discard(chat.messages.at(-1)!.msgId);
  assert.equal(chat.messages.length, 1);
  assert.throws(() => chat.send({ content: "x", meta: { blob: "x".repeat(70_000) } }), ImError);
  await ann.stop();
  await bob.stop();
});

test("groups: joined, left and dismissed are seen live and after being away", { timeout }, async () => {
  const ann = client(fresh("ann"));
  const store = new MemoryStore();
  const name = fresh("bob");
  let bob = client(name, { store });
  await ann.start();
  await bob.start();
  const events: string[] = [];
  bob.on("membership", (event) => events.push(event.type));
  await until("online", () => bob.connection.synced);
  const { conversation_id: id } = await ann.groups.create({ name: "Team", members: [name] });
  await until("bob is told", () => events.includes("joined"));
  await until("and lists it", () => bob.conversations.some((one) => one.id === id));
  await ann.conversation(id).send("welcome").stored();
  await until("bob reads it", () => bob.conversation(id).lastMessage?.content === "welcome");
  assert.equal((await bob.groups.get(id)).name, "Team");
  assert.equal((await bob.groups.members(id)).members.length, 2);
  await bob.stop();
  await ann.groups.remove(id, name);
  bob = client(name, { store });
  await bob.start();
  await until("bob is in step", () => bob.connection.synced);
  assert.ok(!bob.conversations.some((one) => one.id === id), "removed while away");
  bob.on("membership", (event) => events.push(event.type));
  await ann.groups.add(id, [name]);
  await until("bob is back", () => bob.conversations.some((one) => one.id === id));
  await ann.groups.dismiss(id);
  await until("bob is told of the end", () => events.includes("dismissed"));
  await assert.rejects(bob.groups.get(id), (error: ImError) => error.code === 404);
  const presence = await bob.presence([ann.userId]);
  assert.ok(presence.size <= 1);
  await ann.stop();
  await bob.stop();
});

test("a token is exchanged before it expires, and the connection lives on", { timeout }, async () => {
  const name = fresh("ann");
  const reasons: string[] = [];
  const provider = (reason: string) => {
    reasons.push(reason);
    return token(name, reasons.length === 1 ? 4 : 3_600);
  };
  const before = CountedSocket.opened;
  const ann = client(name, { token: provider });
  await ann.start();
  assert.equal(ann.userId, name);
  await until("a new token was asked for", () => reasons.includes("expiring"));
  await pause(5_000);
  assert.equal(ann.connection.status, "online");
  assert.equal(CountedSocket.opened, before + 1, "one connection all the time");
  await ann.direct(fresh("bob")).send("still here").stored();
  // Revoked: a new token is asked for, and the client is back.
  await ann.call("POST", "/api/logout");
  await until("a token was asked for again", () => reasons.length >= 3);
  await ann.stop();
});

test("a bad token is refused with its reason, and the client goes on when there is a good one", {
  timeout,
}, async () => {
  const name = fresh("ann");
  let good = false;
  const ann = client(name, { token: () => (good ? token(name, 60) : "nonsense") });
  const reasons: number[] = [];
  ann.on("connection", ({ reason }) => reason && reasons.push(reason.code));
  const started = ann.start();
  await until("it was refused", () => reasons.includes(4401));
  good = true;
  await started;
  assert.equal(ann.userId, name);
  await ann.stop();
});

test("a newer connection of the same device stops the older one", { timeout }, async () => {
  const name = fresh("ann");
  const older = client(name, { deviceId: "phone" });
  await older.start();
  await until("online", () => older.connection.status === "online");
  const newer = client(name, { deviceId: "phone" });
  await newer.start();
  await until("the older one stopped", () => older.connection.status === "stopped");
  assert.equal(older.connection.reason?.code, 4409);
  assert.equal(newer.connection.status, "online");
  await newer.stop();
});

test("a message that is sent while all gateways are away is stored when they are back", {
  timeout: 120_000,
}, async () => {
  const [ann, bob] = [client(fresh("ann")), fresh("bob")];
  await ann.start();
  await until("online", () => ann.connection.synced);
  await control("kill 0");
  await control("kill 1");
  cut(1);
  const sent = ann.direct(bob).send("patience");
  await pause(500);
  assert.notEqual(ann.connection.status, "online");
  await control("start 0");
  await control("start 1");
  ann.retryNow();
  assert.equal((await sent.stored()).content, "patience");
  assert.equal((await history(ann, ann.direct(bob).id)).length, 1);
  await ann.stop();
});

test("events come as an async iterator, and changes once per turn however many messages come", {
  timeout,
}, async () => {
  const [ann, bob] = [client(fresh("ann")), client(fresh("bob"))];
  await ann.start();
  await bob.start();
  await until("online", () => bob.connection.synced);
  let changes = 0;
  bob.on("change", () => changes++);
  const chat = ann.direct(bob.userId);
  const sending = Promise.all(Array.from({ length: 100 }, (_, n) => chat.send(`${n}`).accepted()));
  const got: string[] = [];
  for await (const { event } of bob.events("message")) {
    got.push(event.content);
    if (got.length === 100) break;
  }
  await sending;
  assert.deepEqual(
    got,
    Array.from({ length: 100 }, (_, n) => `${n}`),
  );
  assert.ok(changes < 100, `${changes} changes were told`);
  await ann.stop();
  await bob.stop();
});
