import assert from "node:assert/strict";
import { test } from "node:test";
import { add, type Buckets, quantile, Window } from "./percentile.ts";

const buckets = (...counts: [number, number][]): Buckets => new Map(counts);

test("a percentile is linear within its bucket", () => {
  const all = buckets([0.1, 10], [0.2, 20], [0.4, 100], [Infinity, 100]);
  for (const [part, value] of [
    [0.05, 0.05],
    [0.1, 0.1],
    [0.15, 0.15],
    [0.2, 0.2],
    [0.6, 0.3],
    [1, 0.4],
  ] as const) {
    assert.ok(Math.abs((quantile(part, all) ?? NaN) - value) < 1e-9, `${part}: ${quantile(part, all)}`);
  }
});

test("a percentile beyond the last bound is that bound, and undefined without observations", () => {
  assert.equal(quantile(0.99, buckets([1, 1], [30, 1], [Infinity, 100])), 30);
  assert.equal(quantile(0.5, buckets([1, 0], [Infinity, 0])), undefined);
  assert.equal(quantile(0.5, buckets()), undefined);
});

test("empty buckets are skipped", () => {
  const all = buckets([1, 0], [2, 0], [4, 10], [8, 10], [Infinity, 10]);
  assert.equal(quantile(0.5, all), 3);
  assert.equal(quantile(0, all), 2);
});

test("the order of the bounds and of the processes does not matter", () => {
  const all: Buckets = new Map();
  add(all, buckets([Infinity, 4], [10, 4], [2, 0]));
  add(all, buckets([2, 4], [10, 4], [Infinity, 4]));
  assert.deepEqual(
    [...all],
    [
      [Infinity, 8],
      [10, 8],
      [2, 4],
    ],
  );
  assert.equal(quantile(0.5, all), 2);
  assert.equal(quantile(0.75, all), 6);
});

test("a window forgets old samples", () => {
  const window = new Window(2);
  for (const count of [1, 10, 100]) window.add(buckets([1, count], [Infinity, count]));
  assert.equal(window.sum().get(Infinity), 110);
  window.clear();
  assert.equal(window.sum().size, 0);
});
