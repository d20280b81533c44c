// Files of other kinds, forwarded ones, and uploads: progress, cancel, cuts, a reload, refusals.

import assert from "node:assert/strict";
import { attach, picture, pictures, slow, text, tray, uploaded } from "./attachments.mjs";
import { axeOf, bubble, chatWith, choose, enter, menu, online, openWindow, say } from "./browser.mjs";
import { noise, wav } from "./pictures.mjs";

/** Scenarios; the tools are those of e2e.mjs. */
export const uploads = ({ first, second, id, until, call }) => ({
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
});
