/** Pictures and files, against real gateways: what is sent is what others get, and nobody else. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateSync } from "node:zlib";
import { Files, ImError, type UploadProgress } from "../../src/index.js";
import { fresh, online, until } from "./stage.js";

const timeout = 90_000;
const refused = (code: number) => (error: unknown) => error instanceof ImError && error.code === code;

function crc(bytes: Buffer): number {
  let sum = ~0;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

/** A PNG of one color. */
function png(width: number, height: number): Blob {
  const chunk = (type: string, data: Buffer): Buffer => {
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc(Buffer.concat([Buffer.from(type), data])));
    return Buffer.concat([length, Buffer.from(type), data, sum]);
  };
  const head = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0]);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  const rows = Buffer.alloc((width * 3 + 1) * height, 90);
  for (let y = 0; y < height; y++) rows[y * (width * 3 + 1)] = 0;
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const chunks = [chunk("IHDR", head), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))];
  return new Blob([new Uint8Array(Buffer.concat([signature, ...chunks]))], { type: "image/png" });
}

const bytes = (size: number): Blob =>
  new Blob([Uint8Array.from({ length: size }, (_, n) => (n * 2_654_435_761) >>> 24)], {
    type: "application/octet-stream",
  });

async function download(files: Files, id: string, size?: "thumb"): Promise<Response> {
  const link = (await files.links([id], size)).get(id);
  assert.ok(link && link.expiresAt > Date.now() + 600_000, "an address for a while");
  return fetch(link.url);
}

test("pictures and files of a message are what was sent, for its readers alone, until it is recalled", {
  timeout,
}, async (context) => {
  const clients = await online(context, ["files"], fresh("ann"), fresh("bob"), fresh("eve"));
  if (!clients) return;
  const [ann, bob, eve] = clients as [(typeof clients)[0], (typeof clients)[0], (typeof clients)[0]];
  const [mine, theirs, strange] = [new Files(ann), new Files(bob), new Files(eve)];
  const there = bob.direct(ann.userId);
  const note = new File(["what we said"], "notes.txt", { type: "text/plain" });
  const sent = await mine.sendFiles(ann.direct(bob.userId), [png(300, 200)], { content: "Look" });
  const stored = await sent.stored();
  await (await mine.sendFiles(ann.direct(bob.userId), [note, png(20, 10)])).stored();
  await there.open();
  await until("both messages", () => there.messages.length === 2);
  const [first, second] = there.messages;
  const [picture] = first!.attachments!;
  assert.deepEqual([first!.msgType, first!.content, second!.msgType], [2, "Look", 7]);
  assert.deepEqual([picture!.width, picture!.height, picture!.content_type], [300, 200, "image/png"]);
  assert.equal(second!.attachments![0]!.name, "notes.txt");
  const { file_id: noteId } = second!.attachments![0]!;
  assert.equal(await (await download(theirs, noteId)).text(), "what we said");
  assert.equal((await (await download(theirs, picture!.file_id)).blob()).size, png(300, 200).size);
  assert.match((await download(theirs, picture!.file_id, "thumb")).headers.get("content-type")!, /^image\//);
  assert.equal((await strange.links([noteId, picture!.file_id])).size, 0, "not for a stranger");
  // Forwarded by one who may see it, to a conversation of its own.
  await assert.rejects(strange.copy(noteId, eve.direct(bob.userId).id), refused(403));
  const copy = await theirs.copy(noteId, bob.direct(eve.userId).id);
  assert.notEqual(copy.file_id, noteId);
  await bob
    .direct(eve.userId)
    .send({ msgType: 7, attachments: [copy] })
    .stored();
  assert.equal(await (await download(strange, copy.file_id)).text(), "what we said");
  await ann.direct(bob.userId).recall(stored.seq);
  await until("the recall", () => there.messages[0]!.recalled);
  assert.equal(there.messages[0]!.attachments, undefined);
  await until("no address any more", async () => (await new Files(bob).links([picture!.file_id])).size === 0);
  for (const one of clients) await one.stop();
});

test("a file in parts goes on where it was cut, and one that is canceled is gone", { timeout }, async (context) => {
  const clients = await online(context, ["files"], fresh("ann"), fresh("bob"));
  if (!clients) return;
  const [ann, bob] = clients as [(typeof clients)[0], (typeof clients)[0]];
  const conversation = ann.direct(bob.userId);
  const large = bytes(20_000_000);
  let isCut = true;
  let puts = 0;
  const lossy: typeof fetch = async (input, init) => {
    if (++puts > 1 && isCut) throw new TypeError("cut");
    return fetch(input, init);
  };
  const told: UploadProgress[] = [];
  const abort = new AbortController();
  const first = new Files(ann, lossy).upload(conversation.id, large, {
    signal: abort.signal,
    onProgress: (now) => told.push(now),
  });
  await until("some parts, and a cut", () => puts > 3);
  isCut = false;
  const attachment = await first;
  const link = (await new Files(ann).links([attachment.file_id])).get(attachment.file_id)!;
  const found = Buffer.from(await (await fetch(link.url)).arrayBuffer());
  assert.ok(found.equals(Buffer.from(await large.arrayBuffer())), "the same bytes");
  assert.equal(told.at(-1)!.sent, large.size);
  // As after a reload: it is complete, and stays what it is.
  assert.equal((await new Files(ann).resume(attachment.file_id, large)).file_id, attachment.file_id);
  await assert.rejects(new Files(bob).resume(attachment.file_id, large), refused(403));
  const stopped = new AbortController();
  let id = "";
  const canceled = new Files(ann).upload(conversation.id, large, {
    signal: stopped.signal,
    onProgress: ({ fileId }) => {
      id = fileId;
      stopped.abort(new Error("not this one"));
    },
  });
  await assert.rejects(canceled, /not this one/);
  await until("it is dropped", () =>
    ann.call("GET", `/api/uploads/${id}`).then(
      () => false,
      (error) => refused(404)(error),
    ),
  );
  for (const one of clients) await one.stop();
});

test("what a file is not, an avatar, and wrong requests", { timeout }, async (context) => {
  const clients = await online(context, ["files", "profiles"], fresh("ann"), fresh("bob"));
  if (!clients) return;
  const [ann, bob] = clients as [(typeof clients)[0], (typeof clients)[0]];
  const [mine, theirs] = [new Files(ann), new Files(bob)];
  const conversation = ann.direct(bob.userId);
  const lie = new File(["no picture at all"], "lie.png", { type: "image/png" });
  await assert.rejects(mine.upload(conversation.id, lie), refused(400));
  await assert.rejects(mine.upload(conversation.id, new Blob([])), refused(400));
  await assert.rejects(mine.upload(null, new File(["x"], "x.txt", { type: "text/plain" })), refused(400));
  const { file_id: elsewhere } = await mine.upload(conversation.id, bytes(10));
  await assert.rejects(
    ann
      .direct(fresh("zoe"))
      .send({ msgType: 7, attachments: [{ file_id: elsewhere }] })
      .accepted(),
    refused(400),
  );
  const avatar = await mine.setAvatar(png(64, 64));
  assert.equal((await bob.profiles.get([ann.userId])).get(ann.userId)?.avatar, avatar);
  assert.equal((await download(theirs, avatar!, "thumb")).status, 200);
  const { conversation_id: group } = await ann.groups.create({ name: "Faces", members: [bob.userId] });
  const told: string[] = [];
  bob.on("group", ({ conversationId }) => told.push(conversationId));
  const face = await mine.setAvatar(png(32, 32), group);
  await until("the event", () => told.includes(group));
  assert.equal((await bob.groups.get(group)).avatar, face);
  await assert.rejects(theirs.setAvatar(null, group), refused(403));
  await mine.setAvatar(null, group);
  await mine.setAvatar(null);
  assert.ok(!(await ann.profiles.me()).avatar);
  for (const one of clients) await one.stop();
});
