// A browser for tests and screenshots: Debian's Chromium, driven by playwright-core.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const CANDIDATES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const ARGUMENTS = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** What a page may complain about while a gateway is away. */
const EXPECTED = [/WebSocket connection to .* failed/, /Failed to load resource/, /the client goes on after an error/];

/** Starts the browser. As root it needs to go without its sandbox, which only tests may. */
export async function launch() {
  const executablePath = process.env.CHROMIUM || CANDIDATES.find(existsSync);
  if (!executablePath) throw new Error("there is no Chromium: install the package chromium, or name it in CHROMIUM");
  const args = process.getuid?.() === 0 ? [...ARGUMENTS, "--no-sandbox"] : ARGUMENTS;
  return chromium.launch({ executablePath, args });
}

/** A window of its own, with its own storage. `problems` are errors that the page should not have. */
export async function openWindow(browser, options = {}) {
  const context = await browser.newContext({
    viewport: { width: 1180, height: 760 },
    locale: "en-US",
    timezoneId: "Europe/Berlin",
    ...options,
  });
  context.setDefaultTimeout(Number(process.env.PATIENCE ?? 20_000));
  const problems = [];
  watch(context, problems);
  return { context, page: await context.newPage(), problems };
}

function watch(context, problems) {
  context.on("page", (page) => {
    page.on("pageerror", (error) => problems.push(`${error.stack ?? error}`));
    page.on("console", (message) => {
      const text = message.text();
      if (!["error", "warning"].includes(message.type()) || EXPECTED.some((one) => one.test(text))) return;
      problems.push(`${message.type()}: ${text}`);
    });
  });
}

/** Begins as a demo user. */
export async function enter(page, base, name) {
  await page.goto(base);
  await page.getByLabel("Your name").fill(name);
  await page.getByRole("button", { name: "Start chatting" }).click();
  await page.locator(".side").waitFor();
  await online(page);
}

/** Waits until the page is connected. */
export async function online(page) {
  await page.locator(".status-dot.online").waitFor();
}

/** Opens the private chat with a user, whether it is in the list or not. */
export async function chatWith(page, user) {
  await page.getByRole("button", { name: "New conversation" }).first().click();
  await page.getByLabel("User name of the other person").fill(user);
  await page.getByRole("button", { name: "Start chat" }).click();
  await page.locator("textarea").waitFor();
}

/** Opens a conversation of the list. */
export async function choose(page, name) {
  await page.locator(".entry", { hasText: name }).first().click();
  await page.locator(".main-head").waitFor();
}

/** Types a message and sends it. */
export async function say(page, text) {
  await page.locator("textarea").fill(text);
  await page.keyboard.press("Enter");
}

/** The bubble with this text. */
export function bubble(page, text) {
  return page.locator("article.message", { hasText: text }).last();
}

/** An action of the message with this text, by its button. */
export async function act(page, text, action) {
  await bubble(page, text).hover();
  await bubble(page, text).getByRole("button", { name: action, exact: true }).click();
}

/** An action of the message with this text, in its menu. */
export async function menu(page, text, action) {
  await act(page, text, "More actions");
  await page.getByRole("menuitem", { name: action }).click();
}

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What checks this page with axe. `where` is in the message of a failure. */
export function axeOf(page, where) {
  return async (what) => {
    // Not by a script element, which the policy of the page refuses.
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run(document));
    const found = violations.map(
      ({ id, nodes }) => `${id}: ${nodes.map(({ html, any }) => `${html} ${any[0]?.message ?? ""}`).join("\n    ")}`,
    );
    assert.deepEqual(found, [], `${where}: ${what}`);
  };
}
