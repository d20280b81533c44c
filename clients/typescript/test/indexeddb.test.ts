import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { test } from "node:test";
import { IndexedDbStore } from "../src/index.js";

test("records are written together, replaced, removed and found again", async () => {
  const store = new IndexedDbStore("one");
  assert.equal((await store.load()).size, 0);
  await store.write(
    new Map<string, unknown>([
      ["a", { n: 1 }],
      ["b", [1, 2]],
      ["c", "x"],
    ]),
  );
  await store.write(
    new Map<string, unknown>([
      ["a", { n: 2 }],
      ["c", undefined],
    ]),
  );
  const again = new IndexedDbStore("one");
  assert.deepEqual(
    await again.load(),
    new Map<string, unknown>([
      ["a", { n: 2 }],
      ["b", [1, 2]],
    ]),
  );
  assert.equal((await new IndexedDbStore("two").load()).size, 0);
});

test("a write that fails changes nothing", async () => {
  const store = new IndexedDbStore("three");
  await store.write(new Map([["a", 1]]));
  await assert.rejects(
    store.write(
      new Map<string, unknown>([
        ["a", 2],
        ["b", () => undefined],
      ]),
    ),
  );
  assert.deepEqual(await store.load(), new Map([["a", 1]]));
});

test("a deleted store is empty and can be used again", async () => {
  const store = new IndexedDbStore("four");
  await store.write(new Map([["a", 1]]));
  await store.delete();
  assert.equal((await store.load()).size, 0);
});

test("without locks there are no tabs to know of", () => {
  assert.equal(new IndexedDbStore("five").tabs("me"), undefined);
});
