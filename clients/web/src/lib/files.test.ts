import assert from "node:assert/strict";
import { test } from "node:test";
import { kindOf, roomOf, sizeText, typeText } from "./files.ts";

test("kinds of files", () => {
  const types = ["image/png", "image/svg+xml", "video/mp4", "audio/ogg", "text/plain", undefined];
  assert.deepEqual(types.map(kindOf), ["picture", "file", "video", "audio", "file", "file"]);
});

test("a picture keeps its proportions within limits", () => {
  assert.deepEqual(roomOf({ width: 200, height: 100 }), { width: 200, height: 100 });
  assert.deepEqual(roomOf({ width: 3_400, height: 1_700 }), { width: 340, height: 170 });
  assert.deepEqual(roomOf({ width: 1, height: 1 }), { width: 96, height: 96 });
  assert.deepEqual(roomOf({ width: 5_000, height: 10 }), { width: 340, height: 96 });
  assert.deepEqual(roomOf({}), { width: 240, height: 180 });
  assert.deepEqual(roomOf({ width: Number.NaN, height: 5 }), { width: 240, height: 180 });
});

test("sizes", () => {
  const all = [0, 1, 999, 1_000, 1_449, 12_345, 999_400, 999_600, 5_250_000, 3_000_000_000];
  assert.deepEqual(
    all.map((bytes) => sizeText(bytes, "en")),
    ["0 bytes", "1 byte", "999 bytes", "1 kB", "1.4 kB", "12 kB", "999 kB", "1 MB", "5.3 MB", "3 GB"],
  );
});

test("types", () => {
  assert.equal(typeText("report.pdf", "application/pdf"), "PDF");
  assert.equal(typeText("archive.tar.gz", undefined), "GZ");
  assert.equal(typeText("README", "text/plain"), "PLAIN");
  assert.equal(typeText("README", "application/octet-stream"), "");
});
