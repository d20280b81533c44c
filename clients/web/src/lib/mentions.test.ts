import assert from "node:assert/strict";
import { test } from "node:test";
import { mentionsIn, pieces, typedMention } from "./mentions.ts";

test("a mention is an @ and the id of one of the users, as a word", () => {
  const ids = ["ann", "ann-2", "bob"];
  assert.deepEqual(mentionsIn("@ann and @bob, hello", ids), ["ann", "bob"]);
  assert.deepEqual(mentionsIn("(@ann-2)", ids), ["ann-2"]);
  assert.deepEqual(mentionsIn("@ann. @anna @eve mail@bob @@", ids), ["ann"]);
  assert.deepEqual(mentionsIn("@bob.smith", ids), []);
  assert.deepEqual(mentionsIn("no mention", ids), []);
});

test("everyone is written as all", () => {
  assert.deepEqual(mentionsIn("@all and @ann", ["*", "ann"]), ["*"]);
  assert.deepEqual(mentionsIn("@all", ["ann"]), []);
});

test("the pieces together are the text", () => {
  assert.deepEqual(pieces("hi @bob!", ["bob"]), [{ text: "hi " }, { text: "@bob", id: "bob" }, { text: "!" }]);
  assert.deepEqual(pieces("", ["bob"]), [{ text: "" }]);
});

test("the mention that is being typed ends at the caret", () => {
  assert.deepEqual(typedMention("hi @an", 6), { at: 3, word: "an" });
  assert.deepEqual(typedMention("@", 1), { at: 0, word: "" });
  assert.deepEqual(typedMention("你好，@李", 5), { at: 3, word: "李" });
  assert.equal(typedMention("mail@an", 7), undefined);
  assert.equal(typedMention("@an more", 8), undefined);
});
