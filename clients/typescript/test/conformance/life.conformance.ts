/** What happens to messages after they were sent, and a user's own view of conversations, against real gateways. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Excerpt, type ImClient, ImError, type Message, MsgType } from "../../src/index.js";
import { client, fresh, online, until } from "./stage.js";

const timeout = 60_000;
const refused = (code: number) => (error: unknown) => error instanceof ImError && error.code === code;

async function stop(clients: ImClient[]): Promise<void> {
  for (const one of clients) await one.stop();
}

/** What is shown of a message, for comparisons with a fresh pull. */
const seen = ({ seq, content, recalled, mentions, reactions = [] }: Message) => ({
  seq,
  content,
  recalled,
  mentions: mentions ?? [],
  reactions: reactions.map(({ reaction, count, user_ids }) => ({ reaction, count, user_ids })),
});

test("edits and reactions reach who is online, who comes back, and who pulls afresh, in the same state", {
  timeout,
}, async (context) => {
  const clients = await online(context, ["edit", "reactions", "reply", "mentions"], fresh("ann"), fresh("bob"));
  if (!clients) return;
  const [ann, bob] = clients as [ImClient, ImClient];
  const { conversation_id: id } = await ann.groups.create({ members: [bob.userId] });
  const [here, there] = [ann.conversation(id), bob.conversation(id)];
  const first = await here.send("frist").stored();
  await there.open();
  const answer = await there.send({ content: `@${ann.userId}`, replyTo: first.seq, mentions: [ann.userId] }).stored();
  await until("the mention counts", () => here.mentions === 1 && here.mentionSeq === answer.seq);
  assert.equal(here.messages.find(({ seq }) => seq === answer.seq)?.replyTo, first.seq);
  await here.edit(first.seq, "first");
  await here.react(answer.seq, "👍");
  await there.react(answer.seq, "👍");
  await there.react(answer.seq, "👍");
  const at = (conversation: typeof here, { seq }: Message) => conversation.messages.find((one) => one.seq === seq);
  for (const one of [here, there]) {
    await until("the edit", () => at(one, first)?.content === "first" && at(one, first)?.editedAt !== undefined);
    await until("both reactions", () => at(one, answer)?.reactions?.[0]?.count === 2);
  }
  await assert.rejects(there.edit(first.seq, "mine"), refused(403));
  await assert.rejects(here.react(answer.seq, "two words"), refused(400));
  assert.deepEqual(
    (await here.reactions(answer.seq)).reactions.map(({ user_id }) => user_id).sort(),
    [ann.userId, bob.userId].sort(),
  );
  // While bob is away, the mention is edited away, and a reaction is taken back.
  const bobsStore = bob.options.store!;
  await bob.stop();
  await here.react(answer.seq, "👍", true);
  await here.send("while you were away").stored();
  const again = client(bob.userId, { store: bobsStore });
  await again.start();
  await until("bob is back", () => again.connection.synced);
  await again.conversation(id).edit(answer.seq, { content: "nobody", mentions: [] });
  await until("no mention any more", () => here.mentions === 0);
  await here.recall(first.seq);
  const fresher = client(ann.userId);
  await fresher.start();
  await until("recalled everywhere", () => at(here, first)?.recalled === true);
  await fresher.conversation(id).open();
  const expected = fresher.conversation(id).messages.map(seen);
  for (const one of [here, again.conversation(id)]) {
    await until("the state of a fresh pull", () => {
      const shown = one.messages.filter(({ seq }) => seq >= expected[0]!.seq).map(seen);
      return JSON.stringify(shown) === JSON.stringify(expected);
    });
  }
  assert.deepEqual(seen(await here.message(answer.seq)), seen(at(here, answer)!));
  await stop([ann, again, fresher]);
});

test("pins are told, listed, and only for those who may", { timeout }, async (context) => {
  const clients = await online(context, ["pins"], fresh("ann"), fresh("bob"));
  if (!clients) return;
  const [ann, bob] = clients as [ImClient, ImClient];
  const { conversation_id: id } = await ann.groups.create({ members: [bob.userId] });
  const { seq } = await ann.conversation(id).send("the address").stored();
  await bob.conversation(id).open();
  const told: boolean[] = [];
  bob.on("pin", (pin) => {
    assert.deepEqual([pin.conversationId, pin.seq, pin.userId], [id, seq, ann.userId]);
    told.push(pin.pinned);
  });
  await assert.rejects(bob.conversation(id).pin(seq), refused(403));
  await ann.conversation(id).pin(seq);
  await until("bob is told", () => told.length === 1);
  assert.deepEqual(
    (await bob.conversation(id).pins()).map(({ content }) => content),
    ["the address"],
  );
  await ann.conversation(id).pin(seq, true);
  await until("bob is told", () => told.length === 2);
  assert.deepEqual(told, [true, false]);
  assert.deepEqual(await bob.conversation(id).pins(), []);
  await stop(clients);
});

test("an excerpt around an old message grows into the window", { timeout }, async (context) => {
  const clients = await online(context, ["edit"], fresh("ann"), fresh("bob"));
  if (!clients) return;
  const [ann, bob] = clients as [ImClient, ImClient];
  const sent = Array.from({ length: 250 }, (_, n) => bob.direct(ann.userId).send(`text ${n}`));
  const stored = await Promise.all(sent.map((one) => one.stored()));
  const late = client(ann.userId);
  await late.start();
  const conversation = late.direct(bob.userId);
  await conversation.open();
  const excerpt = new Excerpt(conversation);
  await excerpt.open(stored[40]!.seq, 20);
  assert.ok(excerpt.hasNewer && excerpt.messages.length === 40);
  await bob.direct(ann.userId).edit(stored[40]!.seq, "changed");
  await until("the edit", () => excerpt.messages.some(({ content }) => content === "changed"));
  while (excerpt.hasNewer) await excerpt.loadNewer(100);
  while (conversation.hasOlder) await conversation.loadOlder();
  const expected = stored.map(({ seq }, n) => `${seq} ${n === 40 ? "changed" : `text ${n}`}`);
  assert.deepEqual(
    conversation.messages
      .filter(({ msgType }) => msgType === MsgType.Text)
      .map(({ seq, content }) => `${seq} ${content}`),
    expected,
  );
  await stop([ann, bob, late]);
});

test("settings, drafts and clearing are the same on all devices", { timeout }, async (context) => {
  const name = fresh("ann");
  const clients = await online(context, ["settings"], name, name, fresh("bob"));
  if (!clients) return;
  const [one, other, bob] = clients as [ImClient, ImClient, ImClient];
  await bob.direct(name).send("hello").stored();
  await until("both have it", () => one.conversations.length === 1 && other.conversations.length === 1);
  const [here, there] = [one.direct(bob.userId), other.direct(bob.userId)];
  const settings = { pinned: true, archived: true, muted_until: -1, marked_unread: true, draft: "typed" };
  await here.configure(settings);
  await until("the other device", () => there.settings.draft === "typed");
  assert.deepEqual(there.settings, settings);
  const late = client(name);
  await late.start();
  await until("a later device", () => late.connection.synced);
  assert.deepEqual(late.direct(bob.userId).settings, settings);
  there.markRead();
  await until("read on both", () => !here.settings.marked_unread && !there.settings.marked_unread);
  await there.configure({ pinned: false, archived: false, muted_until: 0, draft: null });
  await until("all at its default", () => Object.keys(here.settings).length === 0);
  await assert.rejects(here.configure({ draft: "x".repeat(4_097) }), refused(413));
  assert.deepEqual(here.settings, {});
  await there.open();
  await here.clear();
  for (const device of [one, other]) await until("out of the list", () => device.conversations.length === 0);
  assert.deepEqual(there.messages, []);
  await bob.direct(name).send("after it").stored();
  for (const device of [one, other]) {
    const conversation = device.direct(bob.userId);
    await until("back in the list", () => device.conversations.length === 1);
    await conversation.open();
    assert.deepEqual(
      conversation.messages.map(({ content }) => content),
      ["after it"],
    );
    assert.equal(conversation.unread, 1);
  }
  await stop([one, other, bob, late]);
});

test("who is watched comes and goes by events", { timeout }, async (context) => {
  const clients = await online(context, ["presence_events"], fresh("ann"), fresh("bob"));
  if (!clients) return;
  const [ann, bob] = clients as [ImClient, ImClient];
  await bob.direct(ann.userId).send("hello").stored();
  const told: boolean[] = [];
  ann.on("presence", ({ userId, online: is, lastSeen }) => {
    assert.equal(userId, bob.userId);
    assert.equal(lastSeen === undefined, is);
    if (told.at(-1) !== is) told.push(is);
  });
  ann.watchPresence([bob.userId]);
  await until("online", () => told.length === 1);
  await bob.stop();
  await until("offline", () => told.length === 2);
  await bob.start();
  await until("online again", () => told.length === 3);
  assert.deepEqual(told, [true, false, true]);
  await stop(clients);
});
