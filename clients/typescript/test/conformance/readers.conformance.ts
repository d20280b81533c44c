/** 1,000 messages, readers that come and go, gateways that are killed and drained, sockets that are cut. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { type ImClient, MemoryStore, type Message } from "../../src/index.js";
import { brief, client, control, cut, fresh, history, sockets, until } from "./stage.js";

const MESSAGES = 1_000;

test("every reader ends with the identical list", { timeout: 180_000 }, async () => {
  const senders = ["s1", "s2", "s3"].map(fresh);
  const readers = ["r1", "r2", "r3", "r4", "r5", "r6"].map(fresh);
  const owner = client(senders[0]!);
  await owner.start();
  const { conversation_id: id } = await owner.groups.create({ members: [...senders.slice(1), ...readers] });
  const writing = [owner, ...senders.slice(1).map((user) => client(user))];
  for (const one of writing.slice(1)) await one.start();

  // Readers 0 and 1 stay connected (0 follows as a program would); the others come and go with their stores.
  const stores = readers.map(() => new MemoryStore());
  const told: Message[][] = readers.map(() => []);
  const reading = readers.map((user, n) => {
    const one = client(user, { store: stores[n]!, follow: n % 2 === 0 });
    one.on("message", (message) => told[n]!.push(message));
    return one;
  });
  for (const one of reading) await one.start();

  let done = false;
  const comeAndGo = readers.slice(2).map(async (user, k) => {
    const n = k + 2;
    while (!done) {
      await pause(300 + Math.random() * 1_500);
      await reading[n]!.stop();
      await pause(Math.random() * 1_000);
      const again = client(user, { store: stores[n]!, follow: n % 2 === 0 });
      again.on("message", (message) => told[n]!.push(message));
      reading[n] = again;
      await again.start();
      if (n % 2 === 1)
        void again
          .conversation(id)
          .open()
          .catch(() => undefined);
    }
  });
  const trouble = (async () => {
    await pause(1_500);
    await control("kill 0");
    await pause(500);
    cut(0.5);
    await control("start 0");
    await pause(1_500);
    await control("drain 1");
    await control("start 1");
    await pause(500);
    for (let n = 0; n < 5; n++) {
      cut(0.3);
      await pause(400);
    }
  })();

  const sent: Promise<Message>[] = [];
  for (let n = 0; n < MESSAGES; n++) {
    sent.push(writing[n % writing.length]!.conversation(id).send(`message ${n}`).stored());
    await pause(8);
  }
  await trouble;
  const stored = await Promise.all(sent);
  done = true;
  await Promise.all(comeAndGo);

  const truth = await history(owner, id);
  const expected = brief(truth);
  assert.equal(new Set(truth.map((message) => message.msg_id)).size, truth.length);
  const texts = truth.filter((message) => message.content.startsWith("message "));
  assert.equal(texts.length, MESSAGES, "each message is stored once");
  assert.deepEqual(
    stored.map((message) => message.seq).sort((a, b) => a - b),
    texts.map((message) => message.seq),
  );
  for (const [k, one] of writing.entries()) {
    const own = texts.filter((message) => Number(message.content.slice(8)) % writing.length === k);
    const order = own.map((message) => Number(message.content.slice(8)));
    assert.deepEqual(
      order,
      [...order].sort((a, b) => a - b),
      `messages of sender ${k} are in the order of sending`,
    );
    await sameList(one, id, expected);
  }
  for (const one of reading) await sameList(one, id, expected);
  for (const n of [0, 2, 4]) {
    // Told once each, in order, nothing left out: the read position never moved, so all are told, also over restarts.
    assert.deepEqual(
      brief(told[n]!.filter((message) => message.msgType === 1)),
      brief(texts),
      `reader ${n} is told all`,
    );
  }
  for (const one of [...writing, ...reading]) await one.stop();
  await until("all sockets are closed", () => sockets.size === 0);
});

/** The whole conversation, loaded to its beginning. */
async function sameList(one: ImClient, id: string, expected: string[]): Promise<void> {
  const conversation = one.conversation(id);
  await until(`${one.userId} is in step`, () => one.connection.synced, 60_000);
  await conversation.open();
  while (conversation.hasOlder) await conversation.loadOlder(500);
  await until(`${one.userId} has the whole list`, () => conversation.messages.length >= expected.length, 40_000);
  assert.deepEqual(brief(conversation.messages), expected, one.userId);
}
