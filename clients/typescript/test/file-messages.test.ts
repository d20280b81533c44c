/** Messages with files: their place among texts, the store, and what becomes of them. */

import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Files, ImClient, type ImClientOptions, type ImError, IndexedDbStore, type Message } from "../src/index.js";
import { FakeFiles } from "./fake-files.js";
import { FakeServer } from "./fake-server.js";

const GROUP = "group_team";
let http: FakeFiles;
let server: FakeServer;
let committing: ReturnType<typeof setInterval>;
const clients: ImClient[] = [];

beforeEach(async () => {
  http = new FakeFiles();
  await http.listen();
  server = new FakeServer();
  server.room(GROUP, ["ann", "bob"]);
  server.attachment = (id) => http.attachment(id);
  committing = setInterval(() => server.commit(), 5);
});

afterEach(async () => {
  clearInterval(committing);
  await Promise.all(clients.splice(0).map((client) => client.stop()));
  http.close();
});

async function connected(userId: string, options: Partial<ImClientOptions> = {}): Promise<ImClient> {
  const client = new ImClient({ url: http.url, webSocket: server.socket, userId, ...options });
  clients.push(client);
  await client.start();
  await until(() => client.connection.synced);
  return client;
}

async function until(done: () => boolean): Promise<void> {
  const end = Date.now() + 5_000;
  while (!done()) {
    assert.ok(Date.now() < end, "not within 5 s");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const picture = (name: string): File => new File(["png"], name, { type: "image/png" });
const contents = ({ content, attachments }: Message): string =>
  [content, ...(attachments ?? []).map(({ name }) => name)].filter(Boolean).join(" ");

test("pictures are sent as a message that the others get whole, and that is gone after a recall", async () => {
  const [ann, bob] = [await connected("ann"), await connected("bob")];
  const [here, there] = [ann.conversation(GROUP), bob.conversation(GROUP)];
  await there.open();
  const sent = await new Files(ann).sendFiles(here, [picture("a.png"), picture("b.png")], { content: "Look" });
  assert.equal(sent.message.attachments?.[1]?.name, "b.png", "the local echo has all of it");
  const stored = await sent.stored();
  await until(() => there.messages.length === 1);
  const [message] = there.messages;
  assert.deepEqual([message!.msgType, contents(message!)], [2, "Look a.png b.png"]);
  assert.deepEqual(message!.attachments![0], http.attachment("file-1"));
  const frame = server.requests.find(({ cmd }) => cmd === 2)!;
  assert.deepEqual((frame.payload as { attachments: unknown }).attachments, [
    { file_id: "file-1" },
    { file_id: "file-2" },
  ]);
  await here.recall(stored.seq);
  await until(() => there.messages[0]!.recalled);
  assert.deepEqual([there.messages[0]!.attachments, there.lastMessage!.attachments], [undefined, undefined]);
  assert.equal(there.messages[0]!.content, "");
});

test("texts overtake an upload, messages with files keep their order, and one that fails holds nothing up", async () => {
  const ann = await connected("ann");
  const conversation = ann.conversation(GROUP);
  await conversation.open();
  const files = new Files(ann);
  const slow = "slow.png";
  http.intercept = ({ method, path, body }) => {
    if (path === "/api/uploads" && JSON.parse(body.toString()).name === "bad.png") {
      return { status: 413, body: { message: "too large" } };
    }
    if (method === "PUT" && http.uploads.get(path.split("/")[2]!)?.request.name === slow && !isFree) return "cut";
    return undefined;
  };
  let isFree = false;
  const all = [
    files.sendFiles(conversation, [picture(slow)]),
    files.sendFiles(conversation, [picture("fine.png"), picture("bad.png")]),
    files.sendFiles(conversation, [picture("fast.png"), new File(["x"], "x.txt", { type: "text/plain" })]),
  ];
  const failed = assert.rejects(all[1]!, (error: ImError) => error.code === 413);
  await conversation.send("a text").stored();
  await failed;
  isFree = true;
  await (await all[0]!).stored();
  await (await all[2]!).stored();
  assert.deepEqual(conversation.messages.map(contents), ["a text", "slow.png", "fast.png x.txt"]);
  assert.deepEqual(
    conversation.messages.map(({ msgType }) => msgType),
    [1, 2, 7],
  );
});

test("eleven files are refused, and a canceled message is not sent", async () => {
  const ann = await connected("ann");
  const conversation = ann.conversation(GROUP);
  const files = new Files(ann);
  const many = Array.from({ length: 11 }, (_, n) => picture(`${n}.png`));
  await assert.rejects(files.sendFiles(conversation, many), /1 to 10 files/);
  await assert.rejects(files.sendFiles(conversation, []), /1 to 10 files/);
  http.delayMs = 100;
  const abort = new AbortController();
  const sent = files.sendFiles(conversation, many.slice(1), { signal: abort.signal });
  setTimeout(() => abort.abort(), 50);
  await assert.rejects(sent, { name: "AbortError" });
  await until(() => http.uploads.size === 0);
  assert.equal(conversation.messages.length, 0);
});

test("a message with files is sent after a reload, and kept with its attachments", async () => {
  const store = () => new IndexedDbStore("with-files");
  const ann = await connected("ann", { store: store() });
  const conversation = ann.conversation(GROUP);
  await conversation.open();
  // The connection does not take it before the page ends.
  server.intercept = (_, { cmd }) => (cmd === 2 ? "silence" : undefined);
  const { message } = await new Files(ann).sendFiles(conversation, [picture("kept.png")], { content: "Later" });
  await ann.stop();
  server.intercept = undefined;
  const again = await connected("ann", { store: store() });
  await until(() => again.conversation(GROUP).messages[0]?.state === "stored");
  assert.equal(again.conversation(GROUP).messages[0]!.msgId, message.msgId);
  await again.stop();
  const offline = new ImClient({ url: http.url, webSocket: server.socket, userId: "ann", store: store() });
  await offline.start();
  assert.deepEqual(offline.conversation(GROUP).messages[0]!.attachments, [http.attachment("file-1")]);
  await offline.stop();
});

test("a refused message with files can be sent again with the same files", async () => {
  const ann = await connected("ann");
  const conversation = ann.conversation(GROUP);
  await conversation.open();
  let refuses = true;
  server.intercept = (_, { cmd, msg_id = "" }) =>
    cmd === 2 && refuses ? { cmd, msg_id, code: 403, conversation_id: GROUP, payload: "muted" } : undefined;
  const sent = await new Files(ann).sendFiles(conversation, [picture("again.png")]);
  await assert.rejects(sent.accepted(), /muted/);
  refuses = false;
  const stored = await conversation.retry(sent.message.msgId).stored();
  assert.deepEqual(stored.attachments, [http.attachment("file-1")]);
  assert.equal(http.of("PUT", "/bytes/").length, 1);
});
