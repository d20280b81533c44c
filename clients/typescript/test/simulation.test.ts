/** Clients, a server and a bad network: whatever is lost on the way, every reader ends with the list of the server. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ImClient, MemoryStore, type Message } from "../src/index.js";
import { fakeClock, realClock } from "./clock.js";
import { FakeServer, NO_FAULTS, noHttp, random } from "./fake-server.js";

const GROUP = "group_team";
const USERS = ["ann", "bob", "eve"];

interface Person {
  client: ImClient;
  store: MemoryStore;
  told: Message[];
  sent: string[];
}

function person(server: FakeServer, user: string, store = new MemoryStore()): Person {
  const client = new ImClient({
    url: "http://server",
    userId: user,
    store,
    webSocket: server.socket,
    fetch: noHttp,
    follow: true,
  });
  const one: Person = { client, store, told: [], sent: [] };
  client.on("message", (message) => one.told.push(message));
  return one;
}

const SEEDS = process.env["IM_SEEDS"]?.split(",").map(Number) ?? Array.from({ length: 12 }, (_, n) => n + 1);

for (const seed of SEEDS) {
  test(`every reader ends with the identical list (seed ${seed})`, async () => {
    const clock = fakeClock();
    const { random: mathRandom } = Math;
    try {
      const draw = random(seed);
      // The client draws its delays from here: a seed repeats the whole run.
      Math.random = random(seed + 1_000);
      const server = new FakeServer(draw);
      server.room(GROUP, USERS);
      server.faults = { push: 0.1, cut: 0.03, overload: 0.05, renumber: 0.03, refuse: 0.02, skip: 0.03 };
      const people = USERS.map((user) => person(server, user));
      for (const one of people) await one.client.start();
      for (let step = 0; step < 300; step++) {
        const n = Math.floor(draw() * people.length);
        const one = people[n]!;
        const conversation = one.client.conversation(GROUP);
        const dice = draw();
        if (dice < 0.5) one.sent.push(conversation.send(`${step} of ${USERS[n]}`).message.msgId);
        else if (dice < 0.55) conversation.markRead();
        else if (dice < 0.6) {
          const mine = conversation.messages.filter((message) => message.mine && message.state === "stored");
          const target = mine[Math.floor(draw() * mine.length)];
          if (target) conversation.recall(target.seq).catch(() => undefined);
        } else if (dice < 0.63) {
          // A reload: what was not sent goes on in the new client. What it tells again are messages after its store.
          await clock.pass(300);
          const stopping = one.client.stop();
          await clock.pass(20);
          await stopping;
          const next = person(server, USERS[n]!, one.store);
          next.sent = one.sent;
          next.told = one.told;
          people[n] = next;
          await next.client.start();
        } else if (dice < 0.65) for (const socket of [...server.sockets]) socket.end(1012, "retry_after_ms=100");
        await clock.pass(Math.floor(draw() * 200));
        server.commit();
      }
      server.faults = NO_FAULTS;
      const room = server.room(GROUP);
      const visible = () => room.committed.filter((one) => one.msg_type !== 3);
      const list = (messages: readonly { seq: number; content: string; recalled?: boolean }[]) =>
        messages.map((one) => `${one.seq} ${one.recalled === true} ${one.content}`).join("\n");
      for (const [n, one] of people.entries()) {
        await clock.until(() => {
          server.commit();
          const { messages } = one.client.conversation(GROUP);
          const settled = messages.filter((message) => message.state !== "failed");
          return (
            room.queue.length === 0 &&
            one.client.connection.synced &&
            settled.every((message) => message.state === "stored") &&
            list(settled) === list(visible().slice(-settled.length)) &&
            settled.at(-1)?.seq === visible().at(-1)?.seq
          );
        }, 120_000);
        const shown = one.client.conversation(GROUP);
        const failed = new Set(shown.messages.filter((one) => one.state === "failed").map((one) => one.msgId));
        // Each message once, in order, nothing left out after the first one that was told.
        const told = one.told.map((message) => message.seq);
        assert.deepEqual(
          told,
          [...new Set(told)].sort((a, b) => a - b),
          `${USERS[n]} was told in order`,
        );
        assert.deepEqual(
          told,
          visible()
            .filter((message) => message.seq >= (told[0] ?? 0))
            .map((message) => message.seq),
        );
        for (const msgId of one.sent) {
          const stored = room.committed.filter((other) => other.msg_id === msgId);
          assert.equal(stored.length, failed.has(msgId) ? 0 : 1, `${msgId} of ${USERS[n]} is stored once`);
        }
        await clock.until(
          () => shown.unread === unread(room.committed, server.read.get(`${USERS[n]} ${GROUP}`) ?? 0, USERS[n]!),
          90_000,
        );
      }
      for (const one of people) await one.client.stop();
    } finally {
      Math.random = mathRandom;
      realClock();
    }
  });
}

function unread(
  all: { seq: number; sender_id: string; msg_type: number; recalled?: boolean }[],
  read: number,
  user: string,
): number {
  return all.filter((one) => one.seq > read && one.sender_id !== user && one.msg_type === 1 && !one.recalled).length;
}
