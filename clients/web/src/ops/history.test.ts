import assert from "node:assert/strict";
import { test } from "node:test";
import { History, type ReportedProcess, SPAN_S } from "./history.ts";
import { LINES_MAX, lines } from "./series.ts";

const START_MS = 1_700_000_000_000;

function gateway(id: string, atS: number, metrics: string | undefined): ReportedProcess {
  const known = metrics === undefined ? { error: "no answer within 1 s" } : { metrics };
  return { role: "gateway", id, address: "10.0.0.1:8080", time_ms: START_MS + atS * 1000, ...known };
}

function worker(id: string, atS: number, metrics: string): ReportedProcess {
  return { ...gateway(id, atS, metrics), role: "worker" };
}

function add(history: History, atS: number, ...processes: ReportedProcess[]): boolean {
  return history.add({ time_ms: START_MS + atS * 1000, processes });
}

const accepted = (count: number): string => `im_gateway_messages_accepted_total ${count}\n`;

test("counters become rates over the time between two samples, added over the processes", () => {
  const history = new History();
  add(history, 0, gateway("a", 0, accepted(100)), gateway("b", 0, accepted(0)));
  assert.equal(history.now("messages", "accepted"), undefined, "one sample is no rate");
  add(history, 2, gateway("a", 2, accepted(300)), gateway("b", 2.5, accepted(50)));
  assert.equal(history.now("messages", "accepted"), 100 + 20);
});

test("a report that another caller got, too, is added once", () => {
  const history = new History();
  assert.equal(add(history, 0, gateway("a", 0, accepted(1))), true);
  assert.equal(add(history, 0, gateway("a", 0, accepted(1))), false);
  assert.equal(history.points.length, 1);
});

test("a counter that begins again, and a process that is new, give no negative and no huge rate", () => {
  const history = new History();
  add(history, 0, gateway("a", 0, accepted(1_000)));
  add(history, 1, gateway("a", 1, accepted(10)), gateway("new", 1, accepted(1_000_000)));
  assert.equal(history.now("messages", "accepted"), 10);
  add(history, 2, gateway("a", 2, accepted(10)), gateway("new", 2, accepted(1_000_005)));
  assert.equal(history.now("messages", "accepted"), 5);
});

test("a counter that appears has risen from 0", () => {
  const history = new History();
  add(history, 0, gateway("a", 0, ""));
  add(history, 1, gateway("a", 1, 'im_gateway_refused_total{code="503"} 7\n'));
  assert.equal(history.now("refused", "503"), 7);
});

test("a process that does not answer keeps its row, and its rate goes on afterwards", () => {
  const history = new History();
  add(history, 0, gateway("a", 0, accepted(100)));
  add(history, 1, gateway("a", 1, undefined));
  assert.equal(history.now("messages", "accepted"), undefined);
  assert.equal(history.processes[0]?.error, "no answer within 1 s");
  add(history, 2, gateway("a", 2, accepted(140)));
  assert.equal(history.now("messages", "accepted"), 20);
  add(history, 3);
  assert.deepEqual(history.processes, []);
  add(history, 4, gateway("a", 4, accepted(1_000)));
  assert.equal(history.now("messages", "accepted"), undefined, "it had vanished");
});

test("percentiles are those of all processes over the last samples", () => {
  const ack = (fast: number, slow: number): string =>
    `im_gateway_ack_seconds_bucket{le="0.1"} ${fast}\nim_gateway_ack_seconds_bucket{le="1"} ${fast + slow}\n` +
    `im_gateway_ack_seconds_bucket{le="+Inf"} ${fast + slow}\n`;
  const history = new History();
  add(history, 0, gateway("a", 0, ack(1_000, 0)), gateway("b", 0, ack(0, 0)));
  add(history, 1, gateway("a", 1, ack(1_010, 0)), gateway("b", 1, ack(0, 10)));
  assert.equal(history.now("ack", "p50"), 0.1);
  assert.ok(Math.abs((history.now("ack", "p90") ?? 0) - 0.82) < 1e-9, "the 8th of 10 slow ones");
  // Nothing happens for longer than the window.
  for (let at = 2; at < 13; at++) add(history, at, gateway("a", at, ack(1_010, 0)), gateway("b", at, ack(0, 10)));
  assert.equal(history.now("ack", "p50"), undefined);
});

test("shards have the owner and the backlog that their workers report", () => {
  const metrics = (owner: number, ready: number): string =>
    `im_worker_shard_owner{shard="0"} ${owner}\nim_worker_queue_ready_bodies{shard="0"} ${ready}\n` +
    `im_worker_queue_unacked_bodies{shard="0"} 2\nim_worker_messages_held{shard="0"} 3\n`;
  const history = new History();
  add(history, 0, worker("w1", 0, metrics(1, 5)), worker("w2", 0, metrics(0, 0)));
  assert.deepEqual(history.shards, [{ shard: 0, owners: ["w1"], ready: 5, unacked: 4, held: 6 }]);
  assert.equal(history.now("backlog", "0"), 9);
  assert.equal(history.now("gaps", "held"), 6);
  add(history, 1, worker("w2", 1, metrics(0, 0)));
  assert.deepEqual(history.shards[0]?.owners, []);
});

test("points are kept for ten minutes, and a pause interrupts the lines", () => {
  const history = new History();
  for (let at = 0; at <= SPAN_S + 5; at++) add(history, at, gateway("a", at, accepted(at)));
  assert.equal(history.points.length, SPAN_S + 1);
  add(history, SPAN_S + 65, gateway("a", SPAN_S + 65, accepted(SPAN_S + 5)));
  assert.equal(history.points.at(-2)?.values.size, 0);
  const [line] = lines(history, "messages");
  assert.equal(line?.values.at(-2), null);
  assert.equal(line?.now, 0);
});

test("a gateway whose clock is behind begins a new history", () => {
  const history = new History();
  add(history, 100, gateway("a", 100, accepted(1)));
  add(history, 50, gateway("a", 50, accepted(2)));
  assert.equal(history.points.length, 1);
});

test("more series than colors: the largest have a line, and the others share one", () => {
  const history = new History();
  const all = Array.from({ length: LINES_MAX + 4 }, (_, n) => gateway(`g${n}`, 0, `im_gateway_connections ${n + 1}\n`));
  add(history, 0, ...all);
  const found = lines(history, "connections");
  assert.equal(found.length, LINES_MAX);
  assert.deepEqual(
    found.map(({ series }) => series),
    ["g5", "g6", "g7", "g8", "g9", "g10", "g11", "others"],
  );
  assert.equal(found.at(-1)?.now, 1 + 2 + 3 + 4 + 5);
});

test("missing refusals count as none", () => {
  const history = new History();
  const refused = (count: number): string => `im_gateway_refused_total{code="503"} ${count}\n`;
  for (const [at, count] of [
    [0, 0],
    [1, 5],
    [2, 5],
  ] as const) {
    add(history, at, gateway("a", at, refused(count) + accepted(count)));
  }
  assert.deepEqual(lines(history, "refused", [], true)[0]?.values, [0, 5, 0]);
  assert.deepEqual(lines(history, "refused")[0]?.values, [null, 5, null]);
});
