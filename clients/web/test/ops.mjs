// Browser test and pictures of the operations view. loadtest/tests/e2e_web.rs starts a system of two gateways and two
// workers for the test, and sends the messages that it asks for: a line `@say …` on standard output. For the pictures
// any system will do, under any load.
//
//   GATEWAYS="http://127.0.0.1:8081 http://127.0.0.1:8082" OPERATOR_KEY=… node test/ops.mjs view
//   GATEWAYS=… OPERATOR_KEY=… node test/ops.mjs pictures FOLDER [SECONDS]

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { launch, openWindow } from "./browser.mjs";

const gateways = (process.env.GATEWAYS ?? "http://127.0.0.1:8081").split(" ");
const key = process.env.OPERATOR_KEY ?? "";
const TIMEOUT_MS = 30_000;

/** Polls until `attempt` gives something true. */
async function until(what, attempt) {
  const end = Date.now() + TIMEOUT_MS;
  for (;;) {
    const found = await attempt();
    if (found) return found;
    assert.ok(Date.now() < end, `not within ${TIMEOUT_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Lets the test's other half send messages until `work` has ended. */
async function underLoad(work) {
  const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  let isOver = false;
  const sending = (async () => {
    while (!isOver) {
      console.log(`@say ${gateways[0]} ann private_ann_ben 200 message`);
      const { value, done } = await answers.next();
      assert.ok(!done && value === "ok", `the test answered ${value}`);
    }
  })();
  try {
    return await Promise.race([work(), sending.then(() => assert.fail("no more messages"))]);
  } finally {
    isOver = true;
    await sending.catch(() => undefined);
  }
}

async function signIn(page, typed) {
  await page.locator("#key").fill(typed);
  await page.keyboard.press("Enter");
}

/** The text of a tile, by its title. */
async function tile(page, title) {
  return page.locator(".tile", { hasText: title }).locator("dd").textContent();
}

/** The texts of a column of a table. */
async function column(page, table, head) {
  const region = page.getByRole("region", { name: table, exact: true });
  const heads = await region.locator("thead th").allInnerTexts();
  const cells = await region
    .locator("tbody tr")
    .evaluateAll((rows, at) => rows.map((row) => row.cells[at]?.textContent ?? ""), heads.indexOf(head));
  return cells;
}

/** Rules of accessibility (axe), in what is shown now. */
async function accessible(page, what) {
  const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run());
  const lines = found.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" ")}`);
  assert.deepEqual(lines, [], what);
}

/** Without the key there is a form, with a wrong one too; with the right one all processes, in charts that move. */
async function view(browser) {
  const window = await openWindow(browser, { colorScheme: "dark" });
  const { page } = window;
  const requests = [];
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(`${gateways[0]}/ops`);
  assert.equal(await page.locator("table, canvas").count(), 0);
  await accessible(page, "the form");
  await signIn(page, "not the key, but as long as one is");
  await page.getByRole("alert").filter({ hasText: "not the operator's key" }).waitFor();
  assert.equal(await page.locator("table, canvas").count(), 0);
  await signIn(page, key);
  await page.locator(".tiles").waitFor();

  await until(
    "all processes",
    async () => (await column(page, "Processes", "State")).join() === "ready,ready,ready,ready",
  );
  assert.deepEqual(await column(page, "Processes", "Role"), ["gateway", "gateway", "worker", "worker"]);
  await until("an owner of each shard", async () => {
    const owners = await column(page, "Shards", "Owner");
    return owners.length > 0 && owners.every((owner) => owner !== "nobody");
  });
  for (const title of ["accepted per second", "committed per second", "connections"]) {
    await until(title, async () => Number((await tile(page, title)).replaceAll(",", "")) > 0);
  }
  for (const title of ["acknowledged", "pushed, p50"]) {
    await until(title, async () => /^[\d.]+ m?s \/ [\d.]+ m?s$/.test(await tile(page, title)));
  }
  // The charts move: the last moment of one of them changes.
  const canvas = page.locator(".chart", { hasText: "Messages per second" }).locator("canvas");
  const picture = () => canvas.evaluate((drawn) => drawn.toDataURL());
  const before = await picture();
  await until("a chart that moves", async () => (await picture()) !== before);
  await accessible(page, "the view, dark");

  // A pause stops the calls, and the key survives a reload and no sign-out.
  await page.getByRole("button", { name: "Pause" }).click();
  await page.locator(".state", { hasText: "Paused" }).waitFor();
  await page.getByRole("button", { name: "Resume" }).click();
  await page.reload();
  await page.locator(".tiles").waitFor();
  await page.emulateMedia({ colorScheme: "light" });
  await page.getByLabel("Language").selectOption("zh");
  await page.getByRole("heading", { name: "运维" }).waitFor();
  assert.equal(await page.getAttribute("html", "lang"), "zh-CN");
  await accessible(page, "the view, light, Chinese");
  await page.setViewportSize({ width: 360, height: 740 });
  await until("no sideways scrolling", () =>
    page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth),
  );
  await page.getByRole("button", { name: "退出" }).click();
  await page.locator("#key").waitFor();
  assert.equal(await page.locator("table, canvas").count(), 0);
  await page.reload();
  await page.locator("#key").waitFor();
  assert.ok(
    requests.every((url) => !url.includes(encodeURIComponent(key))),
    "the key is in no address",
  );
  assert.ok(
    requests.every((url) => url.startsWith(gateways[0])),
    "one address is enough",
  );
  // The refused key is what the browser reports about the first attempt.
  return [window];
}

/** Pictures in the first burst after some seconds: wide and dark in English, narrow and light in Chinese. */
async function pictures(browser, folder, seconds = "60") {
  const looks = [
    ["ops-burst", { colorScheme: "dark", locale: "en-US", viewport: { width: 1440, height: 1000 } }],
    ["ops-phone", { colorScheme: "light", locale: "zh-CN", viewport: { width: 390, height: 844 } }],
  ];
  const windows = [];
  for (const [name, look] of looks) {
    const window = await openWindow(browser, look);
    await window.page.goto(`${gateways[0]}/ops`);
    await signIn(window.page, key);
    await window.page.locator(".tiles").waitFor();
    windows.push([name, window]);
  }
  await new Promise((resolve) => setTimeout(resolve, Number(seconds) * 1000));
  await until("a burst", async () => Number((await tile(windows[0][1].page, "accepted")).replaceAll(",", "")) > 1_000);
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  for (const [name, { page }] of windows) await page.screenshot({ path: `${folder}/${name}.png` });
  return windows.map(([, window]) => window);
}

const [scenario, ...words] = process.argv.slice(2);
const run = { view: (...all) => underLoad(() => view(...all)), pictures }[scenario];
assert.ok(run, "name a scenario: view or pictures");
const browser = await launch();
try {
  for (const { problems } of await run(browser, ...words)) assert.deepEqual(problems, []);
} finally {
  await browser.close();
}
console.log(`${scenario}: passed`);
// Standard input may be open.
process.exit();
