// What happens to messages after they were sent: edits, reactions, answers, pins, mentions.

import assert from "node:assert/strict";
import { act, bubble, chatWith, choose, enter, menu, openWindow, say } from "./browser.mjs";

/** Scenarios; the tools are those of e2e.mjs. */
export const life = ({ first, second, id, run, ask, until, group, call }) => {
  /** The number of the first message of a conversation. */
  const oldest = async (conversation, user) => {
    const { payload } = await call("GET", `/api/conversations/${conversation}/messages?user_id=${user}&limit=10`);
    return payload.find(({ msg_type }) => msg_type === 1).seq;
  };
  return {
    /** An own message is edited, by button and by key; the other one sees it, also after a reload. */
    async edits(browser) {
      const [a, b] = [id("edit-ann"), id("edit-ben")];
      const one = await openWindow(browser);
      const two = await openWindow(browser);
      await enter(one.page, first, a);
      await enter(two.page, second, b);
      await chatWith(one.page, b);
      await chatWith(two.page, a);
      await say(one.page, "The meeting is at nine");
      await bubble(one.page, "at nine").locator("[data-state=stored]").waitFor();
      await bubble(two.page, "at nine").waitFor();
      assert.equal(await two.page.getByRole("button", { name: "Edit", exact: true }).count(), 0, "only one's own");
      await act(one.page, "at nine", "Edit");
      const field = one.page.getByLabel("Edit message");
      assert.equal(await field.inputValue(), "The meeting is at nine");
      await field.fill("The meeting is at ten");
      await one.page.keyboard.press("Enter");
      for (const { page } of [one, two]) {
        await bubble(page, "at ten")
          .locator(".edited", { hasText: /edited \d/ })
          .waitFor();
        assert.equal(await page.locator("article.message").count(), 1);
      }
      // By keyboard: the arrow in an empty field; Escape leaves the text as it is.
      const empty = one.page.getByLabel("Write a message");
      await empty.press("ArrowUp");
      await one.page.getByLabel("Edit message").pressSequentially("!");
      await one.page.keyboard.press("Escape");
      await one.page.getByLabel("Write a message").waitFor();
      assert.equal(await empty.inputValue(), "");
      await empty.press("ArrowUp");
      await one.page.getByLabel("Edit message").pressSequentially(", room 5");
      await one.page.keyboard.press("Enter");
      await bubble(two.page, "at ten, room 5").waitFor();
      await two.page.reload();
      await choose(two.page, a);
      await bubble(two.page, "at ten, room 5").locator(".edited").waitFor();
      return [one, two];
    },

    /** Reactions by the picker, by its text field and by a chip; who gave them; taken back. */
    async reactions(browser) {
      const [a, b] = [id("react-ann"), id("react-ben")];
      const one = await openWindow(browser);
      const two = await openWindow(browser);
      await enter(one.page, first, a);
      await enter(two.page, second, b);
      await chatWith(one.page, b);
      await say(one.page, "We won!");
      await chatWith(two.page, a);
      await bubble(two.page, "We won!").waitFor();
      const chip = (page, emoji) => bubble(page, "We won!").locator(".reactions button", { hasText: emoji });
      await act(two.page, "We won!", "React");
      await two.page.getByRole("button", { name: "React with 🎉" }).click();
      for (const { page } of [one, two]) await chip(page, "🎉").filter({ hasText: "1" }).waitFor();
      // The other one adds to it by a click on the chip.
      await chip(one.page, "🎉").click();
      await chip(two.page, "🎉").filter({ hasText: "2" }).waitFor();
      assert.match(await chip(two.page, "🎉").getAttribute("aria-label"), new RegExp(`🎉 2: You, ${a}`));
      assert.equal(await chip(two.page, "🎉").getAttribute("title"), `You, ${a}`);
      // Any other emoji, by keyboard.
      await act(two.page, "We won!", "React");
      await two.page.getByLabel("Any other emoji").fill("🦄");
      await two.page.keyboard.press("Enter");
      await chip(one.page, "🦄").filter({ hasText: "1" }).waitFor();
      // A press on a chip that lasts, or the menu, says who.
      await chip(one.page, "🎉").click({ button: "right" });
      for (const user of [b, "You"]) await one.page.locator("dialog .person", { hasText: user }).first().waitFor();
      await one.page.keyboard.press("Escape");
      await menu(one.page, "We won!", "Who reacted");
      await one.page.locator("dialog .person", { hasText: "You" }).getByRole("button", { name: "Take back" }).click();
      await one.page.keyboard.press("Escape");
      for (const { page } of [one, two]) await chip(page, "🎉").filter({ hasText: "1" }).waitFor();
      await chip(two.page, "🎉").click();
      for (const { page } of [one, two]) await chip(page, "🎉").waitFor({ state: "detached" });
      return [one, two];
    },

    /** An answer quotes its message and leads to it, also where that is far from what is loaded. */
    async replies(browser) {
      const [a, b] = [id("reply-ann"), id("reply-ben")];
      const conversation = await group(`Long ${run}`, b, [a]);
      await ask("say", second, b, conversation, 1, "the old question");
      await ask("say", second, b, conversation, 400, "filler");
      const one = await openWindow(browser);
      const two = await openWindow(browser);
      await enter(one.page, first, a);
      await enter(two.page, second, b);
      for (const { page } of [one, two]) await choose(page, `Long ${run}`);
      await bubble(two.page, "filler 399").waitFor();
      await act(two.page, "filler 399", "Reply");
      await two.page.locator(".target-bar", { hasText: "filler 399" }).waitFor();
      await say(two.page, "the new answer");
      const newest = one.page.locator(".to-newest");
      if (await newest.isVisible()) await newest.click();
      await bubble(one.page, "the new answer").locator(".quote", { hasText: "filler 399" }).click();
      await one.page.locator("article.is-marked", { hasText: "filler 399" }).waitFor();
      // An answer to the oldest message, which is not loaded here.
      const seq = await oldest(conversation, a);
      const payload = { content: "about the old one", reply_to: seq };
      await ask("frame", second, b, JSON.stringify({ conversation_id: conversation, payload }));
      const quote = bubble(one.page, "about the old one").locator(".quote", { hasText: "the old question" });
      await quote.click();
      await one.page.locator("article.is-marked", { hasText: "the old question" }).waitFor();
      await one.page.locator("article:focus", { hasText: "the old question" }).waitFor();
      assert.equal(await bubble(one.page, "about the old one").count(), 0, "it is far away");
      // What changes there is shown, and what is after it follows without a gap.
      await ask(
        "frame",
        second,
        b,
        JSON.stringify({
          conversation_id: conversation,
          payload: { msg_type: 4, edit_seq: seq, content: "the old question, again" },
        }),
      );
      await bubble(one.page, "the old question, again").waitFor();
      const seen = new Set();
      await one.page.locator(".timeline").hover();
      await until("the newest message", async () => {
        for (const text of await one.page.locator("article .text").allInnerTexts()) seen.add(text.trim());
        await one.page.mouse.wheel(0, 300);
        // Until it has moved: rows that no frame shows are in no document.
        await one.page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
        return seen.has("about the old one");
      });
      const missing = Array.from({ length: 400 }, (_, n) => `filler ${n}`).filter((text) => !seen.has(text));
      assert.deepEqual(missing, []);
      await until("the end", async () => {
        await one.page.mouse.wheel(0, 700);
        return (await one.page.locator(".to-newest").count()) === 0;
      });
      // And back to the newest ones at once.
      await quote.click();
      await one.page.locator("article.is-marked", { hasText: "the old question" }).waitFor();
      await one.page.locator(".to-newest").click();
      await bubble(one.page, "about the old one").waitFor();
      return [one, two];
    },

    /** Pinned messages: the bar, the jump, the list, and only by those who may. */
    async pins(browser) {
      const [a, b] = [id("pin-ann"), id("pin-ben")];
      const conversation = await group(`Pins ${run}`, a, [b]);
      await ask("say", first, a, conversation, 1, "the address");
      await ask("say", first, a, conversation, 120, "talk");
      const one = await openWindow(browser);
      const two = await openWindow(browser);
      await enter(one.page, first, a);
      await enter(two.page, second, b);
      await choose(one.page, `Pins ${run}`);
      await bubble(one.page, "talk 119").waitFor();
      await menu(one.page, "talk 119", "Pin message");
      await one.page.locator(".pin-bar", { hasText: "talk 119" }).waitFor();
      await choose(two.page, `Pins ${run}`);
      await two.page.locator(".pin-bar", { hasText: "talk 119" }).waitFor();
      // Of a message that is not loaded.
      await ask(
        "frame",
        first,
        a,
        JSON.stringify({
          conversation_id: conversation,
          payload: { msg_type: 6, pin_seq: await oldest(conversation, a) },
        }),
      );
      const bar = two.page.locator(".pin-bar");
      await bar.getByText("Pinned message 1 of 2").waitFor();
      await bar.locator(".pin-text", { hasText: "the address" }).click();
      await two.page.locator("article.is-marked", { hasText: "the address" }).waitFor();
      await bar.getByText("talk 119").waitFor();
      await two.page.getByRole("button", { name: "Pinned messages" }).click();
      await two.page.locator("dialog .pin-entry", { hasText: "the address" }).waitFor();
      assert.equal(await two.page.getByRole("button", { name: "Unpin message" }).count(), 0, "members do not unpin");
      await two.page.keyboard.press("Escape");
      // The owner does; a recalled message is not pinned any more.
      await one.page.getByRole("button", { name: "Pinned messages" }).click();
      await one.page
        .locator("dialog .pin-entry", { hasText: "the address" })
        .getByRole("button", { name: "Unpin message" })
        .click();
      await one.page.locator("dialog .pin-entry", { hasText: "the address" }).waitFor({ state: "detached" });
      await one.page.keyboard.press("Escape");
      await two.page.locator(".pin-bar", { hasText: "Pinned message" }).getByText("talk 119").waitFor();
      await two.page.getByText("Pinned message 1 of 2").waitFor({ state: "detached" });
      await menu(one.page, "talk 119", "Recall");
      await one.page.locator("dialog").getByRole("button", { name: "Recall" }).click();
      for (const { page } of [one, two]) await page.locator(".pin-bar").waitFor({ state: "detached" });
      return [one, two];
    },

    /** Mentions: completed while they are typed, counted in the list, highlighted, and led to. */
    async mentions(browser) {
      const [a, b] = [id("call-ann"), id("call-ben")];
      const conversation = await group(`Calls ${run}`, b, [a, id("call-cat")]);
      const one = await openWindow(browser);
      const two = await openWindow(browser);
      await enter(one.page, first, a);
      await enter(two.page, second, b);
      await choose(two.page, `Calls ${run}`);
      await ask("say", second, b, conversation, 40, "before");
      await bubble(two.page, "before 39").waitFor();
      const field = two.page.locator("textarea");
      await field.pressSequentially("Ask @call-a");
      const option = two.page.getByRole("option");
      await option.filter({ hasText: a }).waitFor();
      assert.equal(await option.count(), 1);
      await two.page.keyboard.press("Enter");
      assert.equal(await field.inputValue(), `Ask @${a} `);
      await field.pressSequentially("about it");
      await two.page.keyboard.press("Enter");
      await bubble(two.page, "about it").locator(".mention").waitFor();
      const badge = one.page.locator(".entry", { hasText: `Calls ${run}` }).locator(".mention-badge");
      await badge.getByText("1 unread mention").waitFor({ state: "attached" });
      await ask("say", second, b, conversation, 80, "talk");
      // By the arrow keys and with everyone.
      await field.pressSequentially("And @");
      await option.first().waitFor();
      await two.page.keyboard.press("ArrowUp");
      await two.page.keyboard.press("Tab");
      assert.equal(await field.inputValue(), "And @all ");
      await field.pressSequentially("please");
      await two.page.keyboard.press("Enter");
      await badge.getByText("2 unread mentions").waitFor({ state: "attached" });
      await badge.getByText("@2").waitFor();
      await choose(one.page, `Calls ${run}`);
      // The first one is led to and highlighted.
      await one.page.locator(".to-mention", { hasText: "2 unread mentions" }).click();
      await one.page.locator("article.mentions-me.is-marked", { hasText: "about it" }).waitFor();
      await one.page.locator("article.mentions-me .mention.is-me").first().waitFor();
      await one.page.locator(".to-newest").click();
      await bubble(one.page, "And @all please").waitFor();
      await badge.waitFor({ state: "detached" });
      // An edit adds a mention, which counts.
      await one.page.keyboard.press("Escape");
      await one.page.locator(".empty").waitFor();
      await say(two.page, "later");
      await bubble(two.page, "later").locator("[data-state=stored]").waitFor();
      await act(two.page, "later", "Edit");
      await two.page.getByLabel("Edit message").fill(`@${a} later`);
      await two.page.getByLabel("Edit message").press("Enter");
      await badge.getByText("1 unread mention").waitFor({ state: "attached" });
      return [one, two];
    },
  };
};
