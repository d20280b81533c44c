import assert from "node:assert/strict";
import { test } from "node:test";
import type { MessageNotification } from "im-client";
import { pushTexts } from "../i18n/push.ts";
import { addressOf, type Bounds, bytesOf, decide, hasKey, isOurs, parse, wantedBy, wording } from "./notifications.ts";

const message = (seq: number, more: Partial<MessageNotification> = {}): MessageNotification => ({
  type: "message",
  conversation_id: "group_a",
  seq,
  title: "Team",
  body: "Ann: hello",
  count: 1,
  sender_id: "ann",
  ...more,
});
const read = (seq: number) => ({ type: "read", conversation_id: "group_a", seq }) as const;
const none: Bounds = new Map();
const at = (seq: number): Bounds => new Map([["group_a", seq]]);

test("a push is read as the server writes it, and other things are not taken for one", () => {
  const full = message(7, { mention: true, badge: 3, quiet: true });
  assert.deepEqual(parse(JSON.parse(JSON.stringify(full))), full);
  assert.deepEqual(parse({ ...read(7), more: 1 }), read(7));
  const { body: _, ...without } = message(1);
  assert.deepEqual(parse(without), without);
  for (const bad of [
    undefined,
    null,
    "text",
    [],
    {},
    { ...full, type: "later" },
    { ...full, seq: "7" },
    { ...full, seq: -1 },
    { ...full, conversation_id: "" },
  ]) {
    assert.equal(parse(bad), undefined, JSON.stringify(bad));
  }
  const odd = parse({ type: "message", conversation_id: "x", seq: 1, title: 5, body: {}, count: "2", badge: -1 });
  assert.deepEqual(odd, { type: "message", conversation_id: "x", seq: 1, title: "", count: 1, sender_id: "" });
});

test("a message is shown once, and a later one instead of it", () => {
  const first = decide(message(7), none, undefined, false);
  assert.deepEqual(first, { action: "show", bounds: at(7) });
  assert.deepEqual(decide(message(8), first.bounds, 7, false), { action: "show", bounds: at(8) });
  for (const seq of [7, 6]) {
    assert.deepEqual(decide(message(seq), at(7), 7, false), { action: "repeat", bounds: at(7) });
    assert.equal(decide(message(seq), at(7), undefined, false).action, "nothing", "the user has put it away");
  }
});

test("a read position closes the notification up to it, and keeps late messages away", () => {
  assert.deepEqual(decide(read(7), at(7), 7, false), { action: "close", bounds: at(7) });
  assert.deepEqual(decide(read(6), at(7), 7, false), { action: "nothing", bounds: at(7) });
  assert.deepEqual(decide(read(9), at(7), undefined, false), { action: "nothing", bounds: at(9) });
  assert.equal(decide(message(9), at(9), undefined, false).action, "nothing");
  assert.equal(decide(message(10), at(9), undefined, false).action, "show");
});

test("what a visible page shows needs no notification, now and later", () => {
  assert.deepEqual(decide(message(8), at(7), undefined, true), { action: "nothing", bounds: at(8) });
  assert.deepEqual(decide(message(8), at(7), 7, true), { action: "close", bounds: at(8) });
});

test("conversations are counted apart, and the oldest are forgotten", () => {
  let bounds = none;
  for (let n = 0; n < 600; n++) {
    bounds = decide(message(n, { conversation_id: `group_${n}` }), bounds, undefined, false).bounds;
  }
  assert.equal(bounds.size, 500);
  assert.equal(bounds.get("group_599"), 599);
  assert.ok(!bounds.has("group_99") && bounds.has("group_100"));
  // A conversation that goes on stays.
  bounds = decide(message(1_000, { conversation_id: "group_100" }), bounds, undefined, false).bounds;
  bounds = decide(message(1, { conversation_id: "group_new" }), bounds, undefined, false).bounds;
  assert.ok(bounds.has("group_100") && !bounds.has("group_101"));
});

test("the text has the message, the count and the mention, in both languages", () => {
  const { en, zh } = pushTexts;
  assert.deepEqual(wording(message(1), en), { title: "Team", body: "Ann: hello" });
  assert.equal(wording(message(1, { count: 3 }), en).body, "Ann: hello\n3 new messages");
  assert.equal(wording(message(1, { count: 3 }), zh).body, "Ann: hello\n3 条新消息");
  assert.equal(wording(message(1, { mention: true }), en).body, "You were mentioned: Ann: hello");
  const { body: _, ...without } = message(1, { title: "" });
  assert.deepEqual(wording(without, en), { title: "Chat", body: "1 new message" });
  assert.deepEqual(wording({ ...without, mention: true, count: 2 }, zh), {
    title: "聊天",
    body: "有人提到了你\n2 条新消息",
  });
});

test("an address opens the conversation that it was made for", () => {
  for (const id of ["group_a", "private_ann_bob+c", "group_&=#%/ü"]) {
    const address = addressOf({ conversation_id: id, seq: 1, sender_id: "a&b" });
    assert.ok(address.startsWith("/#"));
    assert.deepEqual(wantedBy(new URL(address, "http://x").hash), { id, from: "a&b" });
  }
  assert.equal(wantedBy(""), undefined);
  assert.equal(wantedBy("#other"), undefined);
});

test("only notifications of conversations are ours", () => {
  assert.ok(isOurs({ conversation_id: "x", seq: 1, sender_id: "" }));
  for (const other of [undefined, null, {}, { seq: 1 }, "x"]) assert.ok(!isOurs(other));
});

test("a subscription of another key is recognized", () => {
  const key = bytesOf("BAEC_-8");
  assert.deepEqual([...key], [4, 1, 2, 255, 239]);
  assert.ok(hasKey(key.buffer, key));
  assert.ok(hasKey(null, key), "browsers that do not say it are believed");
  assert.ok(!hasKey(bytesOf("BAEC_-4").buffer, key));
  assert.ok(!hasKey(bytesOf("BAEC").buffer, key));
});
