// Pictures: attached in all ways, shown, recalled, with addresses that expire; avatars; accessibility.

import assert from "node:assert/strict";
import { attach, give, picture, pictures, text, tray, uploaded } from "./attachments.mjs";
import { axeOf, bubble, chatWith, choose, enter, menu, openWindow, say } from "./browser.mjs";
import { wav } from "./pictures.mjs";

/** Scenarios; the tools are those of e2e.mjs. */
export const files = ({ first, second, id, run, until, group }) => ({
  /** Files by button, paste and drop; a caption; both sides; the room of a picture before it has loaded; the gallery. */
  async pictures(browser) {
    const [a, b] = [id("pic-ann"), id("pic-ben")];
    const one = await openWindow(browser);
    const two = await openWindow(browser);
    await enter(one.page, first, a);
    await enter(two.page, second, b);
    await chatWith(one.page, b);
    // By the button, and by a paste.
    await attach(one.page, [picture("wide.png", 640, 320)]);
    await give(one.page, "textarea", "paste", [picture("pasted.png", 100, 300, [200, 90, 60])]);
    for (const name of ["wide.png", "pasted.png"]) await uploaded(one.page, name);
    await one.page.getByLabel("Add a caption").fill("Two at once");
    await one.page.keyboard.press("Enter");
    await bubble(one.page, "Two at once").locator("[data-state=stored]").waitFor();
    assert.equal(await one.page.locator(".tray-file").count(), 0);
    assert.equal(await one.page.locator("textarea").inputValue(), "");
    // By a drop, with a hint while it is over the conversation.
    const long = [picture("long.png", 400, 800, [60, 160, 90])];
    await give(one.page, ".timeline", "dragover", long);
    await one.page.getByText("Drop files here to attach them").waitFor();
    await give(one.page, ".timeline", "drop", long);
    await one.page.getByText("Drop files here to attach them").waitFor({ state: "detached" });
    // Sent with the files, as soon as they are there.
    await one.page.getByRole("button", { name: "Send", exact: true }).click();
    await pictures(one.page, "long.png").waitFor();

    // The other one: the list says what it is, and the rooms are there before the pictures.
    await two.page.locator(".entry", { hasText: "Picture" }).waitFor();
    let release = () => {};
    const released = new Promise((resolve) => {
      release = resolve;
    });
    await two.page.route("**/*", async (route) => {
      const isPicture = route.request().resourceType() === "image" && !route.request().url().endsWith(".svg");
      if (isPicture) await released;
      await route.continue();
    });
    await choose(two.page, a);
    const button = (name) => two.page.locator(`.picture-button:has(img[alt^="${name},"])`);
    await pictures(two.page, "long.png").waitFor({ state: "attached" });
    const before = await button("long.png").boundingBox();
    assert.ok(Math.abs(before.width - 170) < 2 && Math.abs(before.height - 340) < 2, JSON.stringify(before));
    assert.ok(await pictures(two.page, "long.png").evaluate((image) => !image.complete));
    const top = await two.page.locator(".timeline").evaluate((box) => box.scrollHeight);
    release();
    for (const name of ["wide.png", "pasted.png", "long.png"]) {
      await until(`${name} is loaded`, () =>
        pictures(two.page, name).evaluate((image) => image.complete && image.naturalWidth > 0),
      );
    }
    assert.deepEqual(await button("long.png").boundingBox(), before);
    assert.equal(await two.page.locator(".timeline").evaluate((box) => box.scrollHeight), top);

    // The gallery, by keyboard.
    const { page } = two;
    await button("wide.png").focus();
    await page.keyboard.press("Enter");
    const shown = page.locator("dialog.gallery");
    const original = (name) => shown.locator(`img[alt="${name}, picture by ${a}"]`);
    await original("wide.png").waitFor();
    await shown.getByText("1 of 3").waitFor();
    await page.keyboard.press("ArrowRight");
    await original("pasted.png").waitFor();
    await page.keyboard.press("End");
    await original("long.png").waitFor();
    await page.keyboard.press("ArrowRight");
    await shown.getByText("3 of 3").waitFor();
    await page.keyboard.press("ArrowLeft");
    await original("pasted.png").waitFor();
    for (let n = 0; n < 7; n++) {
      await page.keyboard.press("Tab");
      const isInside = await page.evaluate(
        () =>
          document.activeElement === document.body ||
          document.querySelector("dialog.gallery").contains(document.activeElement),
      );
      assert.ok(isInside, "the focus stays in the gallery");
    }
    const download = page.waitForEvent("download");
    await shown.getByRole("link", { name: "Download pasted.png" }).click();
    assert.equal((await download).suggestedFilename(), "pasted.png");
    await page.keyboard.press("Escape");
    await shown.waitFor({ state: "detached" });
    await button("wide.png").and(page.locator(":focus")).waitFor();

    // A recall takes the picture away, also from the gallery.
    await button("long.png").click();
    await original("long.png").waitFor();
    await one.page.locator("article.message", { has: pictures(one.page, "long.png") }).hover();
    await one.page
      .locator("article.message", { has: pictures(one.page, "long.png") })
      .getByRole("button", { name: "More actions" })
      .click();
    await one.page.getByRole("menuitem", { name: "Recall" }).click();
    await one.page.locator("dialog").getByRole("button", { name: "Recall" }).click();
    await original("long.png").waitFor({ state: "detached" });
    await shown.getByText("2 of 2").waitFor();
    await page.keyboard.press("Escape");
    for (const { page } of [one, two]) await pictures(page, "long.png").waitFor({ state: "detached" });
    await menu(one.page, "Two at once", "Recall");
    await one.page.locator("dialog").getByRole("button", { name: "Recall" }).click();
    for (const { page } of [one, two]) await page.locator(".pictures").waitFor({ state: "detached" });
    return [one, two];
  },

  /** Addresses that have expired are asked for again, and what stays broken is named. */
  async expired(browser) {
    const [a, b] = [id("exp-ann"), id("exp-ben")];
    const one = await openWindow(browser);
    const two = await openWindow(browser);
    await enter(one.page, first, a);
    await chatWith(one.page, b);
    await attach(one.page, [picture("old.png", 300, 200)]);
    await uploaded(one.page, "old.png");
    await one.page.getByRole("button", { name: "Send", exact: true }).click();
    await pictures(one.page, "old.png").waitFor();
    await one.page.locator("[data-state=stored]").waitFor();
    // The first request of each picture is refused, as after the end of its address.
    const refused = new Set();
    let isBroken = false;
    await enter(two.page, second, b);
    await two.page.route("**/*", (route) => {
      const request = route.request();
      const isPicture = request.resourceType() === "image" && !request.url().endsWith(".svg");
      if (!isPicture || (refused.size > 0 && !isBroken)) return route.continue();
      refused.add(request.url());
      return route.fulfill({ status: 403 });
    });
    await choose(two.page, a);
    await until("it is shown", () =>
      pictures(two.page, "old.png").evaluate((image) => image.complete && image.naturalWidth > 0),
    );
    assert.equal(refused.size, 1);
    isBroken = true;
    await two.page.reload();
    await choose(two.page, a);
    await two.page.getByText("This picture cannot be shown.").waitFor();
    assert.equal(await two.page.locator(".picture-button .placeholder").count(), 0, "nothing covers it");
    return [one, two];
  },

  /** Pictures of a user and of a group, wherever they are shown. */
  async avatars(browser) {
    const [a, b] = [id("av-ann"), id("av-ben")];
    await group(`Faces ${run}`, a, [b]);
    const one = await openWindow(browser);
    const two = await openWindow(browser);
    await enter(one.page, first, a);
    await chatWith(one.page, b);
    await say(one.page, "hello");
    await bubble(one.page, "hello").locator("[data-state=stored]").waitFor();
    const { page } = one;
    await page.getByRole("button", { name: "Settings", exact: true }).click();
    const settings = page.locator("dialog");
    await settings.locator('input[type="file"]').setInputFiles(picture("me.png", 900, 600, [180, 80, 160]));
    await settings.locator(".avatar.large img").waitFor();
    await settings.getByRole("button", { name: "Remove picture" }).waitFor();
    await page.keyboard.press("Escape");
    await page.locator(".side-me .avatar img").waitFor();
    await settings.waitFor({ state: "detached" });
    // Something else than a picture is refused by the page.
    await page.getByRole("button", { name: "Settings", exact: true }).click();
    await settings.locator('input[type="file"]').setInputFiles(text("me.png", "no picture"));
    await settings.getByText("The browser cannot read this picture.").waitFor();
    await page.keyboard.press("Escape");
    await enter(two.page, second, b);
    const entry = two.page.locator(".entry", { hasText: a });
    await until("the picture in the list", () =>
      entry
        .locator(".avatar img")
        .evaluate((image) => image.naturalWidth === image.naturalHeight && image.naturalWidth > 0),
    );
    // A group's, by its owner, seen by a member at once.
    await choose(two.page, `Faces ${run}`);
    assert.equal(await two.page.locator(".main-title .avatar img").count(), 0);
    await choose(page, `Faces ${run}`);
    await page.getByRole("button", { name: "Show details" }).click();
    await page.locator('.details input[type="file"]').setInputFiles(picture("us.png", 400, 400));
    await page.locator(".details-top .avatar img").waitFor();
    await two.page.locator(".main-title .avatar img").waitFor();
    await two.page.getByRole("button", { name: "Show details" }).click();
    await two.page.locator(".person", { hasText: a }).locator(".avatar img").waitFor();
    assert.equal(await two.page.locator('.details input[type="file"]').count(), 0, "members do not change it");
    await page.locator(".details").getByRole("button", { name: "Remove picture" }).click();
    await page.locator(".details-top .avatar img").waitFor({ state: "detached" });
    await two.page.locator(".main-title .avatar img").waitFor({ state: "detached" });
    return [one, two];
  },

  /** Accessible in both themes, wide and on a phone; long conversations with pictures stay fast. */
  async filesAccessible(browser) {
    const [a, b] = [id("fax-ann"), id("fax-ben")];
    const windows = [];
    for (const colorScheme of ["light", "dark"]) {
      const one = await openWindow(browser, { colorScheme, reducedMotion: "reduce" });
      windows.push(one);
      const { page } = one;
      const check = axeOf(page, colorScheme);
      await enter(page, first, a);
      await chatWith(page, `${b}-${colorScheme}`);
      await attach(page, [picture("one.png", 500, 300), picture("two.png", 300, 500), text("list.txt", "a b c")]);
      for (const name of ["one.png", "two.png", "list.txt"]) await uploaded(page, name);
      await check("tray");
      await page.route("**/api/uploads?*", (route) => route.fulfill({ status: 413, json: { message: "too large" } }));
      await attach(page, [text("refused.txt", "x")]);
      await tray(page, "refused.txt").getByText("too large").waitFor();
      await check("refused");
      await page.unroute("**/api/uploads?*");
      await page.getByRole("button", { name: "Remove refused.txt" }).click();
      await page.keyboard.type("Look at these");
      await page.keyboard.press("Enter");
      await bubble(page, "Look at these").locator("[data-state=stored]").waitFor();
      await attach(page, [picture("three.png", 800, 400), { name: "tone.wav", mimeType: "audio/wav", buffer: wav() }]);
      for (const name of ["three.png", "tone.wav"]) await uploaded(page, name);
      await page.getByRole("button", { name: "Send", exact: true }).click();
      await pictures(page, "three.png").waitFor();
      await check("messages");
      await pictures(page, "one.png").click();
      await page.locator("dialog.gallery img[alt^='one.png,']").waitFor();
      await check("gallery");
      await page.keyboard.press("Escape");
      await page.setViewportSize({ width: 390, height: 780 });
      await check("phone");
      await attach(page, [picture("four.png", 60, 60)]);
      await uploaded(page, "four.png");
      await check("phone with tray");
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= 390), "no sideways scrolling");
      await page.getByRole("button", { name: "Remove four.png" }).click();
    }
    return windows;
  },
});
