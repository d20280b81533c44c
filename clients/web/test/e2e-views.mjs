// A user's own view of conversations, the same on all devices; system messages and presence events.

import assert from "node:assert/strict";
import { bubble, chatWith, choose, enter, openWindow, say } from "./browser.mjs";

/** Scenarios; the tools are those of e2e.mjs. */
export const views = ({ first, second, id, run, ask, until, group, call }) => {
  const entry = (page, name) => page.locator(".entry-box", { hasText: name });
  /** An action of a conversation, in its menu in the list. */
  const item = async (page, name, action) => {
    await entry(page, name).hover();
    await entry(page, name)
      .getByRole("button", { name: /^Actions for the conversation/ })
      .click();
    await page.getByRole("menuitem", { name: action }).click();
  };
  /** Two devices of one user, and one of another. */
  const devices = async (browser, a, b) => {
    const [one, other, two] = [await openWindow(browser), await openWindow(browser), await openWindow(browser)];
    await enter(one.page, first, a);
    await enter(other.page, second, a);
    await enter(two.page, second, b);
    return [one, other, two];
  };

  return {
    /** What is typed on one device is there on the other one, until it is sent. */
    async drafts(browser) {
      const [a, b] = [id("draft-ann"), id("draft-ben")];
      const [one, other, two] = await devices(browser, a, b);
      await chatWith(two.page, a);
      await say(two.page, "Are you coming?");
      await choose(one.page, b);
      await bubble(one.page, "Are you coming?").waitFor();
      await one.page.locator("textarea").pressSequentially("I think");
      await entry(other.page, b).getByText("I think").waitFor();
      await choose(other.page, b);
      const field = other.page.locator("textarea");
      await until("the draft in the field", async () => (await field.inputValue()) === "I think");
      await field.press("End");
      await field.pressSequentially(" so");
      await until(
        "the draft on the first device",
        async () => (await one.page.locator("textarea").inputValue()) === "I think so",
      );
      // A device that comes later has it, too.
      const late = await openWindow(browser);
      await enter(late.page, first, a);
      await entry(late.page, b).getByText("I think so").waitFor();
      await field.press("Enter");
      await bubble(two.page, "I think so").waitFor();
      for (const { page } of [one, other]) {
        await until("no draft any more", async () => (await page.locator("textarea").inputValue()) === "");
      }
      await entry(late.page, b).getByText("Draft:").waitFor({ state: "detached" });
      await until("no draft on the server", async () => {
        const { conversations } = await call("GET", `/api/conversations?user_id=${a}`);
        return conversations[0].settings?.draft === undefined;
      });
      return [one, other, two, late];
    },

    /** Pinned, muted, archived and marked as unread, here and on another device. */
    async settings(browser) {
      const [a, b, c] = [id("view-ann"), id("view-ben"), id("view-cat")];
      const [one, other, two] = await devices(browser, a, b);
      await chatWith(two.page, a);
      await say(two.page, "the older one");
      await entry(one.page, b).getByText("the older one").waitFor();
      await ask("frame", second, c, JSON.stringify({ to: a, payload: { content: "the newer one" } }));
      await entry(one.page, c).getByText("the newer one").waitFor();
      const firstEntry = async (page) => page.locator(".entry").first().textContent();
      assert.match(await firstEntry(one.page), /the newer one/);
      await item(one.page, b, "Pin to top");
      for (const { page } of [one, other]) {
        await entry(page, b).getByLabel("Pinned").waitFor();
        await until("the pinned one at the top", async () => (await firstEntry(page)).includes("the older one"));
      }
      // A muted one is not counted in the title.
      await until("two in the title", async () => (await other.page.title()) === "(2) Chat");
      await item(one.page, c, "Mute notifications");
      for (const { page } of [one, other]) await entry(page, c).getByLabel("Muted").waitFor();
      await until("one in the title", async () => (await other.page.title()) === "(1) Chat");
      await item(one.page, c, "Unmute notifications");
      await entry(other.page, c).getByLabel("Muted").waitFor({ state: "detached" });
      // Read, and marked as unread until it is opened.
      await item(one.page, b, "Mark as read");
      await entry(other.page, b).locator(".badge").waitFor({ state: "detached" });
      await item(one.page, b, "Mark as unread");
      for (const { page } of [one, other]) await entry(page, b).locator(".dot-badge").waitFor();
      await choose(other.page, b);
      for (const { page } of [one, other]) await entry(page, b).locator(".badge").waitFor({ state: "detached" });
      // Archived: out of the list, into one of its own.
      await item(one.page, c, "Archive");
      for (const { page } of [one, other]) await entry(page, c).waitFor({ state: "detached" });
      await other.page.getByRole("button", { name: "Archived" }).click();
      await entry(other.page, c).waitFor();
      assert.equal(await other.page.locator(".entry").count(), 1);
      await item(other.page, c, "Move out of archive");
      for (const { page } of [one, other]) await entry(page, c).waitFor();
      // A reload and the panel of details show the same.
      await one.page.reload();
      await entry(one.page, b).getByLabel("Pinned").waitFor();
      await choose(one.page, b);
      await one.page.getByRole("button", { name: "Show details" }).click();
      await one.page.getByRole("button", { name: "Unpin from top" }).click();
      for (const { page } of [one, other]) await entry(page, b).getByLabel("Pinned").waitFor({ state: "detached" });
      return [one, other, two];
    },

    /** A chat is cleared for one user, on all devices; the other one keeps it. */
    async clear(browser) {
      const [a, b] = [id("clear-ann"), id("clear-ben")];
      const [one, other, two] = await devices(browser, a, b);
      await chatWith(two.page, a);
      await say(two.page, "before it is cleared");
      for (const { page } of [one, other]) {
        await choose(page, b);
        await bubble(page, "before it is cleared").waitFor();
      }
      await item(one.page, b, "Clear chat");
      await one.page.locator("dialog").getByText("This cannot be undone").waitFor();
      await one.page.locator("dialog").getByRole("button", { name: "Cancel" }).click();
      await bubble(one.page, "before it is cleared").waitFor();
      await item(one.page, b, "Clear chat");
      await one.page.locator("dialog").getByRole("button", { name: "Clear chat" }).click();
      await one.page.locator(".empty").waitFor();
      for (const { page } of [one, other]) {
        await entry(page, b).waitFor({ state: "detached" });
        assert.equal(await bubble(page, "before it is cleared").count(), 0);
      }
      // The next message brings it back, without what was before.
      await say(two.page, "after it");
      await bubble(two.page, "before it is cleared").waitFor();
      await choose(one.page, b);
      for (const { page } of [one, other]) {
        await bubble(page, "after it").waitFor();
        assert.equal(await bubble(page, "before it is cleared").count(), 0);
      }
      await one.page.reload();
      await choose(one.page, b);
      await bubble(one.page, "after it").waitFor();
      await one.page.locator(".top-note", { hasText: "beginning" }).waitFor();
      assert.equal(await bubble(one.page, "before it is cleared").count(), 0);
      return [one, other, two];
    },

    /** What happened to a group is told in its timeline. */
    async system(browser) {
      const [a, b, c, d] = [id("sys-ann"), id("sys-ben"), id("sys-cat"), id("sys-dan")];
      const one = await openWindow(browser);
      const two = await openWindow(browser);
      await enter(one.page, first, a);
      await enter(two.page, second, b);
      const conversation = await group(`System ${run}`, a, [b]);
      await choose(one.page, `System ${run}`);
      await one.page.locator(".system", { hasText: "You created the group" }).waitFor();
      await choose(two.page, `System ${run}`);
      await two.page.locator(".system", { hasText: `${a} created the group` }).waitFor();
      await call("POST", `/api/groups/${conversation}/members?user_id=${a}`, { user_ids: [c, d] });
      await two.page.locator(".system", { hasText: `${a} added ${c}, ${d}` }).waitFor();
      await call("PATCH", `/api/groups/${conversation}?user_id=${a}`, { name: `Renamed ${run}` });
      await two.page.locator(".system", { hasText: `${a} renamed the group to “Renamed ${run}”` }).waitFor();
      await call("DELETE", `/api/groups/${conversation}/members/${d}?user_id=${a}`);
      await two.page.locator(".system", { hasText: `${a} removed ${d}` }).waitFor();
      await call("PATCH", `/api/groups/${conversation}/members/${b}?user_id=${a}`, { role: "admin" });
      await two.page.locator(".system", { hasText: "New role of You: Admin" }).waitFor();
      await call("DELETE", `/api/groups/${conversation}/members/${c}?user_id=${c}`);
      await two.page.locator(".system", { hasText: `${c} left` }).waitFor();
      // They are no unread messages.
      await two.page.reload();
      assert.equal(await entry(two.page, `Renamed ${run}`).locator(".badge").count(), 0);
      return [one, two];
    },

    /** Who comes and goes is told by events: nothing is polled. */
    async presence(browser) {
      const [a, b] = [id("here-ann"), id("here-ben")];
      const one = await openWindow(browser);
      const two = await openWindow(browser);
      // Whoever goes before it is watched is offline at once.
      const watched = new Promise((resolve) => {
        one.page.on("websocket", (socket) =>
          socket.on("framereceived", ({ payload }) => {
            if (payload.includes('"cmd":9') && payload.includes(b)) resolve();
          }),
        );
      });
      await enter(one.page, first, a);
      await enter(two.page, second, b);
      await chatWith(two.page, a);
      await say(two.page, "hello");
      await entry(one.page, b).locator(".avatar .dot").waitFor();
      await watched;
      let polls = 0;
      one.page.on("request", (request) => {
        if (request.url().includes("/api/presence")) polls++;
      });
      await choose(one.page, b);
      await one.page.locator(".main-title", { hasText: "online" }).waitFor();
      await two.context.close();
      await one.page.locator(".main-title", { hasText: "last seen" }).waitFor();
      await entry(one.page, b).locator(".avatar .dot").waitFor({ state: "detached" });
      const back = await openWindow(browser);
      await enter(back.page, first, b);
      await entry(one.page, b).locator(".avatar .dot").waitFor();
      assert.equal(polls, 0);
      return [one, back];
    },
  };
};
