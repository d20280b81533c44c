import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Timeline } from "../src/timeline.js";
import type { WireMessage } from "../src/wire.js";

const message = (seq: number, more: Partial<WireMessage> = {}): WireMessage => ({
  msg_id: `m${seq}`,
  seq,
  sender_id: "bob",
  content: `text ${seq}`,
  msg_type: 1,
  send_time: 0,
  ...more,
});
const recall = (seq: number, target: number) => message(seq, { msg_type: 3, content: "", recall_seq: target });
const seqs = (timeline: Timeline) => timeline.shown.map((one) => one.seq);
const window = (from: number, to: number): Timeline => {
  const timeline = new Timeline("group_a", "ann");
  const page = Array.from({ length: to - from + 1 }, (_, n) => message(to - n));
  timeline._restart(page, from > 1);
  return timeline;
};

test("a push that continues the window is applied", () => {
  const timeline = window(1, 3);
  const { added, gap } = timeline._push([message(4), message(5)]);
  assert.equal(gap, false);
  assert.deepEqual(
    added.map((one) => one.seq),
    [4, 5],
  );
  assert.equal(timeline.cursor, 5);
});

test("a push that begins higher is a gap, and nothing is applied", () => {
  const timeline = window(1, 3);
  assert.deepEqual(timeline._push([message(5)]), { entries: [], added: [], gap: true });
  assert.equal(timeline.cursor, 3);
});

test("a push without the receiver's own message in the middle is applied up to there", () => {
  const timeline = window(1, 3);
  const { gap } = timeline._push([message(4), message(6)]);
  assert.equal(gap, true);
  assert.equal(timeline.cursor, 4);
});

test("what is at or below the cursor is dropped", () => {
  const timeline = window(1, 3);
  const { added, gap } = timeline._push([message(2), message(3), message(4)]);
  assert.equal(gap, false);
  assert.deepEqual(
    added.map((one) => one.seq),
    [4],
  );
  assert.deepEqual(seqs(timeline), [1, 2, 3, 4]);
});

test("a pull skips numbers that were never used", () => {
  const timeline = window(1, 3);
  timeline._forward(3, [message(7), message(9)], 9);
  assert.deepEqual(seqs(timeline), [1, 2, 3, 7, 9]);
  assert.equal(timeline._push([message(10)]).gap, false);
});

test("an answer to a pull of an earlier window is dropped", () => {
  const timeline = window(1, 9);
  timeline._clear();
  timeline._begin(3);
  assert.deepEqual(timeline._forward(9, [message(10)], 10).added, []);
  assert.equal(timeline.cursor, 3);
});

test("an older page fits only where it was asked for", () => {
  const timeline = window(5, 9);
  assert.equal(timeline._older(9, [message(8)], true), 0);
  assert.equal(timeline._older(5, [message(4), message(3)], true), 2);
  assert.deepEqual(seqs(timeline), [3, 4, 5, 6, 7, 8, 9]);
  assert.equal(timeline._hasOlder, true);
  timeline._older(3, [message(2), message(1)], false);
  assert.equal(timeline._hasOlder, false);
});

test("a recall blanks its target, and is not shown", () => {
  const timeline = window(1, 3);
  timeline._push([recall(4, 2)]);
  assert.deepEqual(seqs(timeline), [1, 2, 3]);
  assert.equal(timeline._find(2)?.recalled, true);
  assert.equal(timeline._find(2)?.content, "");
});

test("an older page that was read before a recall shows the recall", () => {
  const timeline = window(5, 9);
  timeline._push([recall(10, 4)]);
  timeline._older(5, [message(4)], true);
  assert.equal(timeline._find(4)?.recalled, true);
});

test("a recall survives the store, and reaches messages from the store", () => {
  const timeline = window(1, 9);
  timeline._push([recall(10, 8)]);
  const again = new Timeline("group_a", "ann", structuredClone(timeline._stored(3)));
  assert.deepEqual(seqs(again), [7, 8, 9]);
  assert.equal(again._find(8)?.recalled, true);
  again._forward(10, [recall(11, 9)], 11);
  assert.equal(again._find(9)?.recalled, true);
});

test("an edit replaces content, and what it does not name stays", () => {
  const timeline = window(1, 1);
  timeline._push([message(2, { meta: { a: 1 } })]);
  timeline._push([message(3, { msg_type: 4, edit_seq: 2, content: "new", send_time: 7 })]);
  assert.deepEqual(
    [timeline._find(2)?.content, timeline._find(2)?.meta, timeline._find(2)?.editedAt],
    ["new", { a: 1 }, 7],
  );
  timeline._push([recall(4, 2), message(5, { msg_type: 4, edit_seq: 2, content: "late" })]);
  assert.equal(timeline._find(2)?.content, "");
});

test("reactions are counted once per user", () => {
  const timeline = window(1, 1);
  const react = (seq: number, user: string, remove = false) =>
    timeline._push([message(seq, { msg_type: 5, sender_id: user, content: "", react_seq: 1, reaction: "+", remove })]);
  react(2, "ann");
  react(3, "bob");
  react(4, "ann");
  assert.deepEqual(timeline._find(1)?.reactions, [{ reaction: "+", count: 2, user_ids: ["ann", "bob"] }]);
  react(5, "ann", true);
  react(6, "bob", true);
  assert.deepEqual(timeline._find(1)?.reactions, []);
});

test("unread messages are counted only in a window that has all of them", () => {
  const timeline = window(5, 9);
  assert.equal(
    timeline._above(2, () => true),
    undefined,
  );
  assert.equal(timeline._above(4, () => true)?.length, 5);
  assert.equal(timeline._above(7, () => true)?.length, 2);
});

test("whatever pushes, pulls and pages come, the window is a part of the conversation without holes", () => {
  const all = Array.from({ length: 40 }, (_, n) => n + 1).filter((seq) => seq % 7 !== 0);
  const step = fc.record({
    what: fc.constantFrom("push", "pull", "older", "trim"),
    at: fc.nat(39),
    size: fc.integer({ min: 1, max: 6 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 30 }), (steps, start) => {
      const timeline = new Timeline("group_a", "ann");
      timeline._restart(
        all
          .filter((seq) => seq <= start)
          .reverse()
          .slice(0, 5)
          .map((seq) => message(seq)),
        true,
      );
      for (const { what, at, size } of steps) {
        const after = (cursor: number) =>
          all
            .filter((seq) => seq > cursor)
            .slice(0, size)
            .map((seq) => message(seq));
        const before = all.filter((seq) => seq < timeline.from).reverse();
        if (what === "push") timeline._push(after(at));
        else if (what === "pull") {
          const page = after(timeline.cursor);
          timeline._forward(timeline.cursor, page, page.at(-1)?.seq ?? timeline.cursor);
        } else if (what === "older") {
          timeline._older(
            timeline.from,
            before.slice(0, size).map((seq) => message(seq)),
            before.length > size,
          );
        } else timeline._trim(size);
        assert.deepEqual(
          seqs(timeline),
          all.filter((seq) => seq >= timeline.from && seq <= timeline.cursor),
        );
      }
    }),
  );
});
