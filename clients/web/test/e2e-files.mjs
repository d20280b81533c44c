// Pictures and files: attached in all ways, uploaded, canceled, resumed, shown, recalled; and avatars.

import assert from "node:assert/strict";
import { axeOf, bubble, chatWith, choose, enter, menu, online, openWindow, say } from "./browser.mjs";
import { noise, png, wav } from "./pictures.mjs";

const picture = (name, width, height, color) => ({
  name,
  mimeType: "image/png",
  buffer: png(width, height, color),
});
const text = (name, content) => ({ name, mimeType: "text/plain", buffer: Buffer.from(content) });

/** Puts files on an element as a paste or a drop does. */
async function give(page, selector, type, files) {
  await page.locator(selector).evaluate(
    (element, [type, files]) => {
      const data = new DataTransfer();
      for (const { name, mimeType, base64 } of files) {
        const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
        data.items.add(new File([bytes], name, { type: mimeType, lastModified: 1 }));
      }
      const options = { bubbles: true, cancelable: true };
      element.dispatchEvent(
        type === "paste"
          ? new ClipboardEvent(type, { ...options, clipboardData: data })
          : new DragEvent(type, { ...options, dataTransfer: data }),
      );
    },
    [type, files.map(({ buffer, ...file }) => ({ ...file, base64: buffer.toString("base64") }))],
  );
}

/** Chooses files, as the button's dialog does. */
const attach = (page, files) => page.locator('.composer input[type="file"]').setInputFiles(files);
const tray = (page, name) => page.locator(".tray-file", { hasText: name });
const uploaded = (page, name) => page.locator('.tray-file[data-state="done"]', { hasText: name }).waitFor();
const pictures = (page, name) => page.locator(`.picture-button img[alt^="${name},"]`);

/** Lets a page send this many bytes a second. */
async function slow(page, bytes) {
  const session = await page.context().newCDPSession(page);
  const set = (uploadThroughput) =>
    session.send("Network.emulateNetworkConditions", {
      offline: false,
      latency: 0,
      downloadThroughput: -1,
      uploadThroughput,
    });
  await set(bytes);
  return () => set(-1);
}

/** Scenarios; the tools are those of e2e.mjs. */
export const files = ({ first, second, id, run, until, group, call }) => ({
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

  /** Files of other kinds: cards, sound, a download; one message with pictures and files; ten at most. */
  async documents(browser) {
    const [a, b] = [id("doc-ann"), id("doc-ben")];
    const one = await openWindow(browser);
    const two = await openWindow(browser);
    await enter(one.page, first, a);
    await enter(two.page, second, b);
    await chatWith(one.page, b);
    await chatWith(two.page, a);
    await attach(one.page, [
      text("notes 笔记.txt", "what we said"),
      picture("map.png", 200, 120),
      { name: "tone.wav", mimeType: "audio/wav", buffer: wav() },
    ]);
    for (const name of ["notes", "map.png", "tone.wav"]) await uploaded(one.page, name);
    await one.page.getByRole("button", { name: "Send", exact: true }).click();
    const card = two.page.locator(".file-card", { hasText: "notes 笔记.txt" });
    await card.getByText("12 bytes · TXT").waitFor();
    await pictures(two.page, "map.png").waitFor();
    await until("the sound is known", () => two.page.locator("audio").evaluate((audio) => audio.duration > 0.9));
    const download = two.page.waitForEvent("download");
    await card.click();
    const found = await download;
    assert.equal(found.suggestedFilename(), "notes 笔记.txt");
    const content = [];
    for await (const chunk of await found.createReadStream()) content.push(chunk);
    assert.equal(Buffer.concat(content).toString(), "what we said");
    // Too many: the first ones are taken.
    await attach(
      one.page,
      Array.from({ length: 12 }, (_, n) => text(`many-${n}.txt`, `${n}`)),
    );
    await one.page.locator(".notice", { hasText: "at most 10 files" }).waitFor();
    assert.equal(await one.page.locator(".tray-file").count(), 10);
    await one.page.getByRole("button", { name: "Remove many-3.txt" }).click();
    await tray(one.page, "many-3.txt").waitFor({ state: "detached" });
    await until("all are uploaded", async () => (await one.page.locator('[data-state="done"]').count()) === 9);
    await one.page.getByRole("button", { name: "Send", exact: true }).click();
    await until("nine cards", async () => (await two.page.locator(".file-card").count()) === 11);
    assert.equal(await one.page.locator(".tray-file").count(), 0);
    return [one, two];
  },

  /** A picture and a text are forwarded; the copy stays when the first one is recalled. */
  async forward(browser) {
    const [a, b, c] = [id("fw-ann"), id("fw-ben"), id("fw-cid")];
    const one = await openWindow(browser);
    const two = await openWindow(browser);
    await enter(one.page, first, a);
    await enter(two.page, second, c);
    const { page } = one;
    await chatWith(page, c);
    await say(page, "hello");
    await bubble(page, "hello").locator("[data-state=stored]").waitFor();
    await chatWith(page, b);
    await attach(page, [picture("view.png", 320, 200)]);
    await uploaded(page, "view.png");
    await say(page, "The view");
    await bubble(page, "The view").locator("[data-state=stored]").waitFor();
    await menu(page, "The view", "Forward");
    const dialog = page.getByRole("dialog", { name: "Forward to" });
    await dialog.getByRole("searchbox").fill(c);
    await axeOf(page, "forward")("dialog");
    await dialog.getByRole("button", { name: c }).click();
    await page.locator(".notice", { hasText: `Forwarded to ${c}` }).waitFor();
    await menu(page, "The view", "Recall");
    await page.locator("dialog").getByRole("button", { name: "Recall" }).click();
    await page.locator(".bubble.recalled").waitFor();
    await choose(two.page, a);
    await bubble(two.page, "The view").waitFor();
    await until("the copy is shown", () =>
      pictures(two.page, "view.png").evaluate((image) => image.complete && image.naturalWidth > 0),
    );
    return [one, two];
  },

  /** Progress, a cancel, a refusal with the text kept, a cut that goes on, and a reload after which the same file goes on. */
  async uploads(browser) {
    const [a, b] = [id("up-ann"), id("up-ben")];
    const one = await openWindow(browser);
    const { page } = one;
    page.on("dialog", (dialog) => void dialog.accept());
    await enter(page, first, a);
    await chatWith(page, b);
    const large = { name: "large.bin", mimeType: "application/octet-stream", buffer: noise(12_000_000) };
    const begun = [];
    page.on("response", async (response) => {
      if (!response.url().includes("/api/uploads?") || response.request().method() !== "POST") return;
      begun.push((await response.json().catch(() => ({}))).file_id);
    });
    const value = () =>
      tray(page, "large.bin")
        .locator("progress")
        .evaluate((bar) => bar.value / bar.max);

    // Progress, and a cancel that the server hears of.
    let fast = await slow(page, 1_500_000);
    await attach(page, [large]);
    await until("some progress", async () => (await value()) > 0.05);
    const early = await value();
    assert.ok(early < 0.95, `${early}`);
    await until("more progress", async () => (await value()) > early);
    await page.getByRole("button", { name: "Remove large.bin" }).click();
    await tray(page, "large.bin").waitFor({ state: "detached" });
    await until("the server dropped it", async () => {
      const response = await fetch(`${first}/api/uploads/${begun[0]}?user_id=${a}`);
      return response.status === 404;
    });

    // Cut in the middle: it waits, and goes on by itself. The message is sent when it is there.
    await attach(page, [large]);
    await page.locator("textarea").fill("The large one");
    await page.keyboard.press("Enter");
    await page.getByText("Sent as soon as all files are uploaded.").waitFor();
    await until("some progress", async () => (await value()) > 0.1);
    await one.context.setOffline(true);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    assert.equal(await page.locator("textarea").inputValue(), "The large one");
    await one.context.setOffline(false);
    fast = await slow(page, -1);
    await fast();
    await bubble(page, "The large one").locator(".file-card", { hasText: "12 MB" }).waitFor();
    await bubble(page, "The large one").locator("[data-state=stored]").waitFor();
    assert.equal(begun.length, 2, "it did not begin again");

    // After a reload the same file goes on, if it is chosen again.
    fast = await slow(page, 1_500_000);
    const again = { ...large, name: "again.bin" };
    // A file of the page itself, since its time of change must be the same the second time.
    const choose = () =>
      page.locator(".composer").evaluate(
        (composer, [name, size]) => {
          const bytes = new Uint8Array(size);
          const data = new DataTransfer();
          data.items.add(new File([bytes], name, { type: "application/octet-stream", lastModified: 1_000 }));
          const input = composer.querySelector('input[type="file"]');
          input.files = data.files;
          input.dispatchEvent(new Event("change", { bubbles: true }));
        },
        [again.name, 12_000_000],
      );
    await choose();
    await until("a part is there", async () => {
      if (begun.length < 3) return false;
      const state = await call("GET", `/api/uploads/${begun[2]}?user_id=${a}`);
      return (state.received?.length ?? 0) > 0 || state.part_count === undefined;
    });
    await page.reload();
    await online(page);
    await page.locator(".entry", { hasText: b }).click();
    await page.locator("textarea").waitFor();
    await fast();
    await choose();
    await uploaded(page, "again.bin");
    const { part_count } = await call("GET", `/api/uploads/${begun[2]}?user_id=${a}`);
    if (part_count !== undefined) assert.equal(begun.length, 3, "it went on");
    await page.getByRole("button", { name: "Remove again.bin" }).click();

    // What the server refuses: its sentence, the text stays, and the rest can be sent without it.
    await page.route("**/api/uploads?*", (route) =>
      route.fulfill({ status: 413, json: { code: 413, message: "a file may have 100 MiB at most" } }),
    );
    await page.locator("textarea").fill("with a file");
    await attach(page, [text("huge.txt", "x")]);
    await tray(page, "huge.txt").getByText("a file may have 100 MiB at most").waitFor();
    await page.locator("textarea").press("Enter");
    await page.getByText("Remove the files that were not uploaded").waitFor();
    assert.equal(await page.locator("textarea").inputValue(), "with a file");
    await page.unroute("**/api/uploads?*");
    await page.getByRole("button", { name: "Upload huge.txt again" }).click();
    await uploaded(page, "huge.txt");
    await page.locator("textarea").press("Enter");
    await bubble(page, "with a file").locator(".file-card", { hasText: "huge.txt" }).waitFor();
    return [one];
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
