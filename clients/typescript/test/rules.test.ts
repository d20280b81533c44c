import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff, delayOf } from "../src/backoff.js";
import { afterClose } from "../src/closing.js";
import { applyEntry, applyNews, applyRead, newInfo } from "../src/info.js";
import { applyReply, echo, Outbox, type OutboxItem } from "../src/outbox.js";
import { httpBase, socketUrl } from "../src/urls.js";
import { type Frame, privateId, type WireMessage } from "../src/wire.js";

test("each close code leads to what the protocol says", () => {
  const cases: [number, string, string][] = [
    [1000, "", "backoff"],
    [1002, "", "stop"],
    [1006, "", "backoff"],
    [1007, "", "stop"],
    [1009, "", "backoff"],
    [1012, "retry_after_ms=1500", "wait"],
    [1012, "", "backoff"],
    [4400, "", "stop"],
    [4401, "", "token"],
    [4402, "", "token"],
    [4403, "", "stop"],
    [4408, "", "backoff"],
    [4409, "", "stop"],
    [4413, "", "backoff"],
    [4429, "", "stop"],
  ];
  for (const [code, reason, action] of cases) assert.equal(afterClose(code, reason).action, action, `${code}`);
  assert.deepEqual(afterClose(1012, "retry_after_ms=1500"), { action: "wait", ms: 1_500 });
});

test("delays grow to a limit, and are never shorter than what the server asks for", () => {
  const backoff = new Backoff(500, 30_000, () => 1);
  const delays = Array.from({ length: 9 }, () => backoff._next());
  assert.deepEqual(delays, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  backoff._reset();
  assert.equal(backoff._next(), 500);
  const frame: Frame = { cmd: 2, code: 429, payload: { message: "too fast", retry_after_ms: 700 } };
  for (let n = 0; n < 50; n++) {
    const delay = delayOf(frame, new Backoff());
    assert.ok(delay >= 700 && delay <= 870, `${delay}`);
  }
});

const item = (more: Partial<OutboxItem> = {}): OutboxItem => ({
  conversationId: "group_a",
  msgId: "m1",
  order: 1,
  payload: { content: "x" },
  owner: "tab",
  state: "sending",
  seq: 0,
  ...more,
});
const reply = (code: number, more: Partial<Frame> = {}): Frame => ({
  cmd: 2,
  code,
  msg_id: "m1",
  payload: "why",
  ...more,
});

test("the last answer for a message counts", () => {
  const one = item();
  assert.equal(applyReply(one, reply(0, { seq: 7 })), "accepted");
  assert.equal(applyReply(one, reply(0, { seq: 9 })), "accepted");
  assert.equal(one.seq, 9);
  for (const code of [403, 404, 409]) {
    assert.equal(applyReply(one, reply(code)), "failed");
    assert.deepEqual([one.state, one.error], ["failed", { code, message: "why" }]);
  }
  assert.equal(applyReply(one, reply(0, { seq: 11 })), "accepted");
  assert.equal(one.error, undefined);
});

test("what may be sent again is sent again, what may not has failed", () => {
  for (const code of [429, 500, 503]) assert.equal(applyReply(item(), reply(code)), "retry");
  for (const code of [400, 403, 404, 409, 413]) assert.equal(applyReply(item(), reply(code)), "failed");
  assert.equal(applyReply(item(), reply(401)), "login");
  const accepted = item({ state: "accepted", seq: 5 });
  applyReply(accepted, reply(503));
  assert.equal(accepted.state, "accepted", "a promise is not taken back by an overload");
});

test("an answer says that another content was stored under this id", () => {
  const one = item();
  applyReply(one, reply(0, { seq: 7, payload: { content_differs: true, message: "…" } }));
  assert.equal(one.contentDiffers, true);
});

test("what the app replaced is shown instead of what was written", () => {
  const one = item({ payload: { content: "darn", msg_type: 1, send_time: 5, reply_to: 3 } });
  applyReply(one, reply(0, { seq: 7, payload: { replaced: true, content: "****" } }));
  const { content, replyTo, sendTime } = echo(one, "ann");
  assert.deepEqual([content, replyTo, sendTime], ["****", 3, 5]);
  applyReply(one, reply(0, { seq: 7, payload: { replaced: true, meta: { a: 1 } } }));
  assert.deepEqual({ ...echo(one, "ann") }.meta, { a: 1 });
  assert.equal(echo(one, "ann").content, "****");
  // Other answers replace nothing.
  applyReply(one, reply(0, { seq: 7, payload: { content_differs: true, message: "…", content: "no" } }));
  assert.equal(echo(one, "ann").content, "****");
});

test("the outbox sends in order, and forgets what is in the conversation", () => {
  const outbox = new Outbox();
  outbox._add(item({ msgId: "b", order: 2 }));
  outbox._add(item({ msgId: "a", order: 1 }));
  outbox._add(item({ msgId: "c", order: 3, owner: "another tab" }));
  assert.equal(outbox._next("tab")?.msgId, "a");
  outbox._get("a")!.state = "accepted";
  assert.equal(outbox._next("tab")?.msgId, "b");
  assert.deepEqual(
    outbox._settle(new Set(["a"]), 1).map((one) => one.msgId),
    ["a"],
  );
  Object.assign(outbox._get("b")!, { state: "accepted", seq: 5, committed: true });
  assert.deepEqual(outbox._settle(new Set(), 5), [], "in the window, only the message itself counts");
  assert.equal(outbox._settle(new Set(), 6).length, 1);
});

const news = (seq: number, more: Partial<WireMessage> = {}): WireMessage => ({
  msg_id: `m${seq}`,
  seq,
  sender_id: "bob",
  content: `text ${seq}`,
  msg_type: 1,
  send_time: 0,
  ...more,
});

test("pushes count as unread unless they are own, read, changes or of the system", () => {
  const info = newInfo();
  applyEntry(info, { conversation_id: "group_a", last_seq: 10, last_ack_seq: 8, unread: 2 }, "ann");
  applyNews(info, "group_a", "ann", [
    news(11),
    news(12, { sender_id: "ann" }),
    news(13, { msg_type: 5, react_seq: 3, reaction: "+" }),
    news(14, { msg_type: 8 }),
    news(15, { msg_type: 100, mentions: ["ann"] }),
  ]);
  assert.deepEqual([info.unread, info.lastSeq, info.mentions, info.mentionSeq, info.last?.seq], [4, 15, 1, 15, 15]);
});

test("a sync that is older than the pushes does not take back what they added", () => {
  const info = newInfo();
  applyEntry(info, { conversation_id: "group_a", last_seq: 10, last_ack_seq: 10, unread: 0 }, "ann");
  applyNews(info, "group_a", "ann", [news(11), news(12)]);
  applyEntry(
    info,
    { conversation_id: "group_a", last_seq: 11, last_ack_seq: 10, unread: 1, last_message: news(11) },
    "ann",
  );
  assert.deepEqual([info.unread, info.lastSeq, info.last?.seq], [2, 12, 12]);
});

test("a read position that moved here is not taken back by a sync that does not know it yet", () => {
  const info = newInfo();
  applyEntry(info, { conversation_id: "group_a", last_seq: 10, last_ack_seq: 5, unread: 5 }, "ann");
  applyRead(info, 10, undefined);
  applyEntry(info, { conversation_id: "group_a", last_seq: 10, last_ack_seq: 5, unread: 5 }, "ann");
  assert.deepEqual([info.unread, info.readSeq], [0, 10]);
});

test("a recall reaches the message in the list", () => {
  const info = newInfo();
  applyNews(info, "group_a", "ann", [news(11), news(12, { msg_type: 3, content: "", recall_seq: 11 })]);
  assert.deepEqual([info.last?.seq, info.last?.recalled, info.last?.content], [11, true, ""]);
});

test("removed and cleared conversations", () => {
  const info = newInfo();
  applyEntry(info, { conversation_id: "group_a", last_seq: 10 }, "ann");
  applyEntry(info, { conversation_id: "group_a", removed: true }, "ann");
  assert.equal(info.member, false);
  applyEntry(info, { conversation_id: "group_a", cleared: true }, "ann");
  assert.deepEqual([info.cleared, info.last], [true, undefined]);
  applyNews(info, "group_a", "ann", [news(11)]);
  assert.equal(info.cleared, undefined);
});

test("names of private chats have the ids in the order of their bytes", () => {
  assert.equal(privateId("bob", "alice"), "private_alice_bob");
  assert.equal(privateId("alice", "alice"), "private_alice_alice");
  assert.equal(privateId("bob_smith", "bob"), "private_bob_bob_smith");
  assert.equal(privateId("a", "B"), "private_B_a");
  // U+FF5E is before U+1F600 in UTF-8, and after it in UTF-16.
  assert.equal(privateId("\u{1f600}", "\uff5e"), "private_\uff5e_\u{1f600}");
});

test("addresses", () => {
  for (const url of ["https://chat.example", "https://chat.example/", "wss://chat.example/ws"]) {
    assert.equal(httpBase(url), "https://chat.example");
    assert.equal(socketUrl(url, {}), "wss://chat.example/ws");
  }
  assert.equal(socketUrl("http://localhost:8081", { user_id: "a b" }), "ws://localhost:8081/ws?user_id=a+b");
});
