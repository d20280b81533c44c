/** Tabs of one browser: one device for all of them, or one each. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { ImClient, type Message } from "../src/index.js";
import { fakeClock, realClock } from "./clock.js";
import { browser, NamedStore } from "./fake-browser.js";
import { FakeServer, NO_FAULTS, noHttp, random } from "./fake-server.js";

const GROUP = "group_team";
let clock: ReturnType<typeof fakeClock>;
let server: FakeServer;
let close: () => void;
let open: ImClient[];

beforeEach(() => {
  clock = fakeClock();
  server = new FakeServer(random(7));
  server.room(GROUP, ["ann", "bob"]);
  close = browser();
  open = [];
});

afterEach(async () => {
  for (const one of open) one.stop().catch(() => undefined);
  await clock.pass(500);
  close();
  realClock();
});

async function tab(user: string, store: NamedStore, tabs: "shared" | "own" = "shared"): Promise<ImClient> {
  const client = new ImClient({
    url: "http://server",
    userId: user,
    store,
    tabs,
    webSocket: server.socket,
    fetch: noHttp,
    follow: true,
  });
  open.push(client);
  client.start().catch(() => undefined);
  await clock.until(() => client.connection.synced, 20_000);
  return client;
}

/** A tab is closed: nothing of it runs any more, and its locks are free. */
async function closed(client: ImClient): Promise<void> {
  open.splice(open.indexOf(client), 1);
  client.stop().catch(() => undefined);
  await clock.pass(20);
}

const settle = (what: () => boolean) =>
  clock.until(() => {
    server.commit();
    return what();
  }, 60_000);
const texts = (client: ImClient) => client.conversation(GROUP).messages.map((one) => `${one.content} ${one.state}`);

test("tabs that share a device have one connection, and all see what one of them sends", async () => {
  const store = new NamedStore("ann");
  const [one, two] = [await tab("ann", store), await tab("ann", store)];
  assert.equal(server.sockets.size, 1);
  one.conversation(GROUP).send("from one");
  two.conversation(GROUP).send("from two");
  await settle(() => [one, two].every((client) => texts(client).join() === "from one stored,from two stored"));
  const bob = await tab("bob", new NamedStore("bob"));
  bob.conversation(GROUP).send("from bob");
  await settle(() => [one, two].every((client) => client.conversation(GROUP).unread === 1));
  two.conversation(GROUP).markRead();
  await clock.until(() => [one, two].every((client) => client.conversation(GROUP).unread === 0), 1_000);
});

test("when the tab with the connection is closed, another one connects with the same device", async () => {
  const store = new NamedStore("ann");
  const [one, two] = [await tab("ann", store), await tab("ann", store)];
  const device = [...server.sockets][0]!.url;
  await closed(one);
  await clock.until(() => server.sockets.size === 1 && two.connection.synced, 20_000);
  assert.equal([...server.sockets][0]!.url, device);
  two.conversation(GROUP).send("alone");
  await settle(() => texts(two).join() === "alone stored");
});

for (const mode of ["shared", "own"] as const) {
  test(`what a closed tab left unsent is sent once by another one (${mode})`, async () => {
    const store = new NamedStore("ann");
    const [one, two] = [await tab("ann", store, mode), await tab("ann", store, mode)];
    server.faults = { ...NO_FAULTS, overload: 1 };
    for (const text of ["a", "b", "c"]) two.conversation(GROUP).send(text);
    await clock.pass(1_000);
    await closed(two);
    server.faults = NO_FAULTS;
    await settle(() => texts(one).join() === "a stored,b stored,c stored");
    await clock.pass(1_000);
    assert.deepEqual(
      [...(await store.load()).keys()].filter((key) => key.startsWith("o ")),
      [],
    );
    assert.equal(server.room(GROUP).committed.length, 3);
  });
}

test("tabs with a device each have a connection each, and are in step", async () => {
  const store = new NamedStore("ann");
  const [one, two] = [await tab("ann", store, "own"), await tab("ann", store, "own")];
  assert.equal(new Set([...server.sockets].map((socket) => socket.url)).size, 2);
  one.conversation(GROUP).send("from one");
  await settle(() => [one, two].every((client) => texts(client).join() === "from one stored"));
});

for (const [seed, mode] of [1, 2, 3, 4, 5, 6].flatMap(
  (seed) =>
    [
      [seed, "shared"],
      [seed, "own"],
    ] as const,
)) {
  test(`tabs that come and go on a bad network end with the identical list (${mode}, seed ${seed})`, async () => {
    const draw = random(seed);
    server = new FakeServer(draw);
    server.room(GROUP, ["ann", "bob"]);
    const { random: mathRandom } = Math;
    Math.random = random(seed + 1_000);
    try {
      const store = new NamedStore("ann");
      let [one, two] = [await tab("ann", store, mode), await tab("ann", store, mode)];
      const bob = await tab("bob", new NamedStore("bob"));
      server.faults = { push: 0.1, cut: 0.02, overload: 0.05, renumber: 0.03, refuse: 0, skip: 0.03 };
      let sent = 0;
      for (let step = 0; step < 150; step++) {
        const dice = draw();
        const sender = dice < 0.3 ? one : dice < 0.6 ? two : dice < 0.85 ? bob : undefined;
        if (sender) sender.conversation(GROUP).send(`${sent++}`);
        else if (dice < 0.88) {
          await closed(one);
          one = two;
          const next = new ImClient({
            url: "http://server",
            userId: "ann",
            store,
            tabs: mode,
            webSocket: server.socket,
            fetch: noHttp,
            follow: true,
          });
          open.push(next);
          void next.start();
          await clock.pass(50);
          two = next;
        }
        await clock.pass(Math.floor(draw() * 150));
        server.commit();
      }
      server.faults = NO_FAULTS;
      const list = (messages: readonly (Message | { seq: number; content: string })[]) =>
        messages.map((message) => `${message.seq} ${message.content}`).join();
      const room = server.room(GROUP);
      for (const client of [one, two, bob]) {
        await settle(
          () =>
            room.queue.length === 0 &&
            room.committed.length === sent &&
            list(client.conversation(GROUP).messages) ===
              list(room.committed.slice(-client.conversation(GROUP).messages.length)) &&
            client.conversation(GROUP).messages.length > 0,
        );
      }
      assert.equal(new Set(room.committed.map((message) => message.content)).size, sent);
    } finally {
      Math.random = mathRandom;
    }
  });
}
