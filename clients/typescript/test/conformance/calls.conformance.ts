/** Calls over HTTP and what other users see of them, against real gateways. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ImError, login, MemoryStore, register } from "../../src/index.js";
import { client, fresh, GATEWAYS, until } from "./stage.js";

const timeout = 60_000;
const refused = (code: number) => (error: unknown) => error instanceof ImError && error.code === code;

/** Clients of these users, online and in step. */
async function online(...names: string[]) {
  const clients = names.map((name) => client(name));
  for (const one of clients) await one.start();
  for (const one of clients) await until("online", () => one.connection.synced);
  return clients;
}

test("profiles are changed by their user, read by others, and cached until they are forgotten", {
  timeout,
}, async () => {
  const [ann, bob] = await online(fresh("ann"), fresh("bob"));
  assert.deepEqual([...(await bob!.profiles.get([ann!.userId])).keys()], [], "nothing is set");
  bob!.profiles.forget(ann!.userId);
  const changed = await ann!.profiles.update({ nickname: "Ann 🌻", meta: { color: "teal" } });
  assert.equal(changed.nickname, "Ann 🌻");
  assert.deepEqual((await ann!.profiles.me()).meta, { color: "teal" });
  const found = await bob!.profiles.get([ann!.userId, fresh("nobody")]);
  assert.deepEqual([...found.keys()], [ann!.userId]);
  assert.equal(bob!.profiles.peek(ann!.userId)?.nickname, "Ann 🌻");
  await ann!.profiles.update({ nickname: "Ann" });
  assert.equal((await bob!.profiles.get([ann!.userId])).get(ann!.userId)?.nickname, "Ann 🌻", "from the cache");
  bob!.profiles.forget(ann!.userId);
  assert.equal((await bob!.profiles.get([ann!.userId])).get(ann!.userId)?.nickname, "Ann");
  await assert.rejects(ann!.profiles.update({ nickname: " " }), refused(400));
  assert.ok(ann!.features.has("profiles"));
  for (const one of [ann, bob]) await one!.stop();
});

test("roles, mutes, names and notices of a group hold at once and are told to its members", { timeout }, async () => {
  const [ann, bob, eve] = await online(fresh("ann"), fresh("bob"), fresh("eve"));
  const told: string[] = [];
  bob!.on("group", ({ conversationId }) => told.push(conversationId));
  const members = [bob!.userId, eve!.userId];
  const { conversation_id: id } = await ann!.groups.create({ name: "Team", members });
  await assert.rejects(bob!.groups.update(id, { name: "Mine" }), refused(403));
  await ann!.groups.setMember(id, bob!.userId, { role: "admin" });
  await bob!.groups.update(id, { name: "Ours", notice: "Monday", meta: { theme: "dark" } });
  await until("bob is told", () => told.includes(id));
  const group = await eve!.groups.get(id);
  assert.deepEqual([group.name, group.notice, group.meta, group.role], ["Ours", "Monday", { theme: "dark" }, "member"]);
  // A mute of one member, then of all but owner and admins.
  await bob!.groups.setMember(id, eve!.userId, { muted_until: Date.now() + 60_000 });
  await assert.rejects(eve!.conversation(id).send("muted").accepted(), refused(403));
  await bob!.groups.setMember(id, eve!.userId, { muted_until: 0 });
  await eve!.conversation(id).send("heard").stored();
  await ann!.groups.update(id, { muted: true });
  await assert.rejects(eve!.conversation(id).send("all muted").accepted(), refused(403));
  await bob!.conversation(id).send("an admin may").stored();
  // The owner hands over, then leaves.
  await assert.rejects(ann!.groups.remove(id, ann!.userId), refused(403));
  await ann!.groups.setMember(id, bob!.userId, { role: "owner" });
  await ann!.groups.remove(id, ann!.userId);
  await until("ann is out", () => !ann!.conversations.some((one) => one.id === id));
  const first = await bob!.groups.members(id, undefined, 1);
  const second = await bob!.groups.members(id, first.next_cursor);
  assert.deepEqual(
    [...first.members, ...second.members].map(({ user_id, role }) => [user_id, role]),
    [bob, eve].map((one) => [one!.userId, one === bob ? "owner" : "member"]).sort(),
  );
  for (const one of [ann, bob, eve]) await one!.stop();
});

test("who wants to be asked is invited, accepts or declines", { timeout }, async () => {
  const [ann, bob] = await online(fresh("ann"), fresh("bob"));
  await bob!.invitations.setSettings({ group_adds: "nobody" });
  assert.deepEqual(await bob!.invitations.settings(), { group_adds: "nobody" });
  const invited: string[] = [];
  bob!.on("invited", ({ conversationId, by }) => invited.push(`${conversationId} ${by}`));
  const one = await ann!.groups.create({ name: "One", members: [bob!.userId] });
  assert.deepEqual(one.invited, [bob!.userId]);
  const two = await ann!.groups.create({ name: "Two" });
  assert.deepEqual((await ann!.groups.add(two.conversation_id, [bob!.userId])).invited, [bob!.userId]);
  await until("both invitations are told", () => invited.length === 2);
  assert.deepEqual(invited, [`${one.conversation_id} ${ann!.userId}`, `${two.conversation_id} ${ann!.userId}`]);
  const { invitations } = await bob!.invitations.list();
  assert.deepEqual(invitations.map(({ name, invited_by }) => [name, invited_by]).sort(), [
    ["One", ann!.userId],
    ["Two", ann!.userId],
  ]);
  await bob!.invitations.accept(one.conversation_id);
  await bob!.invitations.decline(two.conversation_id);
  await until("bob is in the first group", () => bob!.conversations.some(({ id }) => id === one.conversation_id));
  assert.deepEqual((await bob!.invitations.list()).invitations, []);
  assert.equal((await ann!.groups.get(two.conversation_id)).members, 1);
  for (const user of [ann, bob]) await user!.stop();
});

test("presence is known to those who share something, and kept from the blocked", { timeout }, async () => {
  const [ann, bob] = await online(fresh("ann"), fresh("bob"));
  const stranger = fresh("eve");
  await bob!.direct(ann!.userId).send("hello").stored();
  const seen = await ann!.presence([bob!.userId, stranger]);
  assert.deepEqual([...seen], [[bob!.userId, true]], "strangers are left out");
  await bob!.blocks.add(ann!.userId);
  assert.deepEqual((await bob!.blocks.list()).user_ids, [ann!.userId]);
  assert.equal((await ann!.presence([bob!.userId])).size, 0, "bob has blocked ann");
  // Nor are read positions told.
  const read: number[] = [];
  ann!.on("read", ({ seq }) => read.push(seq));
  await until("ann has the message", () => ann!.direct(bob!.userId).lastSeq > 0);
  bob!.direct(ann!.userId).markRead();
  assert.ok(!(await ann!.direct(bob!.userId).positions()).positions.some((one) => one.user_id === bob!.userId));
  await bob!.blocks.remove(ann!.userId);
  assert.deepEqual((await bob!.blocks.list()).user_ids, []);
  const { userId } = bob!;
  await bob!.stop();
  await until("bob is offline", async () => (await ann!.presence([userId])).get(userId) === false);
  assert.deepEqual(read, []);
  await ann!.stop();
});

test("in a group, read positions of all members are listed, and typing reaches the others", { timeout }, async () => {
  const [ann, bob, eve] = await online(fresh("ann"), fresh("bob"), fresh("eve"));
  const { conversation_id: id } = await ann!.groups.create({ members: [bob!.userId, eve!.userId] });
  const { seq } = await ann!.conversation(id).send("hello").stored();
  const typists: string[] = [];
  for (const one of [bob, eve])
    one!.on("typing", ({ conversationId, userId }) => typists.push(`${conversationId} ${userId}`));
  ann!.conversation(id).typing();
  await until("both see who types", () => typists.length === 2);
  assert.deepEqual(new Set(typists), new Set([`${id} ${ann!.userId}`]));
  await until("bob has it", () => bob!.conversation(id).lastSeq === seq);
  bob!.conversation(id).markRead();
  const positions = async () => {
    const first = await ann!.conversation(id).positions(undefined, 2);
    const rest = await ann!.conversation(id).positions(first.next_cursor);
    return new Map([...first.positions, ...rest.positions].map((one) => [one.user_id, one.seq]));
  };
  await until("bob's position is there", async () => (await positions()).get(bob!.userId) === seq);
  assert.equal((await positions()).size, 3);
  assert.equal((await positions()).get(eve!.userId), 0);
  for (const one of [ann, bob, eve]) await one!.stop();
});

test("a read position is kept when the client stops right after reading", { timeout }, async () => {
  const [ann] = await online(fresh("ann"));
  const name = fresh("bob");
  const store = new MemoryStore();
  const bob = client(name, { store });
  await bob.start();
  await until("online", () => bob.connection.synced);
  for (const text of ["one", "two", "three"]) {
    const { seq } = await ann!.direct(name).send(text).stored();
    await until("bob has it", () => bob.direct(ann!.userId).lastSeq === seq);
    bob.direct(ann!.userId).markRead();
  }
  await bob.stop();
  const again = client(name);
  await again.start();
  await until("in step", () => again.connection.synced);
  assert.equal(again.direct(ann!.userId).unread, 0);
  await again.stop();
  await ann!.stop();
});

test("recalls by others are refused, by the owner of a group they are not", { timeout }, async () => {
  const [ann, bob] = await online(fresh("ann"), fresh("bob"));
  const { conversation_id: id } = await ann!.groups.create({ members: [bob!.userId] });
  const own = await ann!.conversation(id).send("of the owner").stored();
  const other = await bob!.conversation(id).send("of a member").stored();
  await assert.rejects(bob!.conversation(id).recall(own.seq), refused(403));
  await assert.rejects(bob!.conversation(id).recall(own.seq + 1_000), refused(404));
  await ann!.conversation(id).recall(other.seq);
  await until("bob sees the recall", () =>
    bob!.conversation(id).messages.some((one) => one.seq === other.seq && one.recalled && one.content === ""),
  );
  assert.ok(
    bob!.conversation(id).messages.every((one) => one.state === "stored"),
    "refused recalls leave nothing behind",
  );
  for (const one of [ann, bob]) await one!.stop();
});

test("the whole history is loaded page by page, and dropped again", { timeout }, async () => {
  const [ann] = await online(fresh("ann"));
  const name = fresh("bob");
  await Promise.all(Array.from({ length: 120 }, (_, n) => ann!.direct(name).send(`${n}`).stored()));
  const bob = client(name, { pageSize: 20 });
  await bob.start();
  const chat = bob.direct(ann!.userId);
  await chat.open();
  assert.equal(chat.messages.length, 20);
  assert.equal(await chat.loadOlder(30), 30);
  while (chat.hasOlder) await chat.loadOlder();
  assert.deepEqual(
    chat.messages.map((one) => one.content),
    Array.from({ length: 120 }, (_, n) => `${n}`),
  );
  chat.trim(10);
  assert.deepEqual([chat.messages.length, chat.hasOlder], [10, true]);
  assert.equal(await chat.loadOlder(), 20);
  await ann!.stop();
  await bob.stop();
});

test("ids that paths cannot have are named all the same", { timeout }, async () => {
  const odd = `${fresh("a/b")}%2F_ü,😀`;
  const [ann, other] = await online(fresh("ann"), odd);
  await other!.direct(ann!.userId).send("from an odd id").stored();
  await until("ann has it", () => ann!.direct(odd).lastSeq > 0);
  await ann!.direct(odd).send("and back").stored();
  await until("it has it", () => other!.direct(ann!.userId).lastMessage?.content === "and back");
  assert.ok((await ann!.direct(odd).positions()).positions.length > 0);
  await ann!.blocks.add(odd);
  assert.deepEqual((await ann!.blocks.list()).user_ids, [odd]);
  await ann!.blocks.remove(odd);
  const { conversation_id: id } = await ann!.groups.create({ members: [odd] });
  await ann!.groups.remove(id, odd);
  assert.equal((await ann!.groups.get(id)).members, 1);
  assert.equal((await ann!.presence([odd])).get(odd), true);
  for (const one of [ann, other]) await one!.stop();
});

test("accounts are registered, logged in, and logged out everywhere", { timeout }, async () => {
  const url = GATEWAYS[0]!;
  // New accounts look like no other one.
  const user_id = `acc${Math.random().toString(36).slice(2, 12).replace(/[01]/g, "x")}`;
  const password = "seven green lanterns";
  const made = await register(url, { user_id, password, nickname: "Somebody" });
  assert.ok(made.expires_at > Date.now());
  await assert.rejects(register(url, { user_id, password }), refused(409));
  await assert.rejects(login(url, { user_id, password: "eight green lanterns" }), refused(401));
  const tokens = [made.token, (await login(url, { user_id, password })).token];
  const [phone, laptop] = tokens.map((one) => client("", { token: () => one }));
  await phone!.start();
  await laptop!.start();
  assert.equal(phone!.userId, user_id);
  assert.equal((await phone!.profiles.me()).nickname, "Somebody");
  assert.ok(Math.abs(phone!.clockOffset) < 5_000);
  const reasons: number[] = [];
  laptop!.on("connection", ({ reason }) => reason && reasons.push(reason.code));
  await phone!.logout();
  assert.equal(phone!.connection.status, "idle");
  await until("the other device is out as well", () => reasons.some((code) => code === 4401 || code === 4402));
  await laptop!.stop();
});
