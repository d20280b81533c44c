import assert from "node:assert/strict";
import { test } from "node:test";
import { increase, named, parse, sum } from "./metrics.ts";

test("the text format is read with labels, escapes and special values", () => {
  const metrics = parse(
    [
      "# HELP im_a Help.",
      "# TYPE im_a counter",
      "im_a 3",
      'im_b{code="503",why="a \\"quoted\\" word, \\\\ and\\na line"} 1.5',
      'im_c_bucket{le="+Inf"} 7',
      "im_d +Inf",
      "im_e not_a_number",
      "im_f ",
      "",
      "line without a value",
    ].join("\n"),
  );
  assert.equal(metrics.get("im_a")?.value, 3);
  const [b] = named(metrics, "im_b");
  assert.deepEqual(b?.labels, { code: "503", why: 'a "quoted" word, \\ and\na line' });
  assert.equal(named(metrics, "im_c_bucket")[0]?.labels.le, "+Inf");
  assert.equal(sum(metrics, "im_d"), Infinity);
  assert.deepEqual(
    [...metrics.values()].map(({ name }) => name),
    ["im_a", "im_b", "im_c_bucket", "im_d"],
  );
});

test("series are added over their labels, and names are compared as a whole", () => {
  const metrics = parse('im_x{a="1"} 2\nim_x{a="2"} 3\nim_x_more 100\n');
  assert.equal(sum(metrics, "im_x"), 5);
  assert.equal(sum(metrics, "im_y"), undefined);
});

test("a counter that is lower than before began again", () => {
  for (const [before, now, risen] of [
    [3, 5, 2],
    [5, 5, 0],
    [5, 2, 2],
    [undefined, 4, 4],
  ] as const) {
    assert.equal(increase(before, now), risen, `${before} to ${now}`);
  }
});
