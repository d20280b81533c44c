// Browser tests. loadtest/tests/e2e_web.rs starts a system and runs one of these scenarios, which may ask it to kill a
// gateway, start it again, or send messages: a line `@…` on standard output, answered by a line on standard input.
//
//   GATEWAYS="http://127.0.0.1:8081 http://127.0.0.1:8082" node test/e2e.mjs SCENARIO

import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { act, axeOf, bubble, chatWith, choose, enter, launch, menu, online, openWindow, say } from "./browser.mjs";
import { files } from "./e2e-files.mjs";
import { life } from "./e2e-life.mjs";
import { pushes } from "./e2e-push.mjs";
import { uploads } from "./e2e-uploads.mjs";
import { views } from "./e2e-views.mjs";

const gateways = (process.env.GATEWAYS ?? "http://127.0.0.1:8081 http://127.0.0.1:8082").split(" ");
const [first, second] = [gateways[0], gateways.at(-1)];
const run = Math.random().toString(36).slice(2, 8);
const id = (name) => `${name}-${run}`;

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Asks the test's other half for something, and waits until it is done. */
async function ask(...words) {
  console.log(`@${words.join(" ")}`);
  const { value, done } = await answers.next();
  assert.ok(!done && value === "ok", `the test answered ${value}`);
}

/** Polls until `attempt` gives something true. */
async function until(what, attempt, timeout = 20_000) {
  const end = Date.now() + timeout;
  for (;;) {
    const found = await attempt();
    if (found) return found;
    assert.ok(Date.now() < end, `not within ${timeout} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function call(method, path, body, headers = {}) {
  const response = await fetch(`${first}${path}`, {
    method,
    headers: { "content-type": "application/json", ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = await response.json();
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}

/** A group of demo users. */
async function group(name, owner, members) {
  const made = await call("POST", `/api/groups?user_id=${owner}`, { name, members });
  return made.conversation_id;
}

const scenarios = {
  ...life({ first, second, id, run, ask, until, group, call }),
  ...views({ first, second, id, run, ask, until, group, call }),
  ...files({ first, second, id, run, until, group }),
  ...uploads({ first, second, id, until, call }),
  ...pushes({ first, second, id, until }),

  /** Two users on two gateways: messages, states, typing, presence, read, recall, unread. */
  async chat(browser) {
    const [a, b] = [id("ann"), id("ben")];
    const one = await openWindow(browser);
    const two = await openWindow(browser);
    await enter(one.page, first, a);
    await enter(two.page, second, b);
    await chatWith(one.page, b);
    await say(one.page, "Hello from the first gateway");
    await bubble(one.page, "Hello from").locator("[data-state=stored]").waitFor();
    // The other one sees it in the list, counted.
    const entry = two.page.locator(".entry", { hasText: a });
    await entry.locator(".badge", { hasText: "1" }).waitFor();
    await until("the counter in the title", async () => (await two.page.title()) === "(1) Chat");
    await entry.click();
    await bubble(two.page, "Hello from").waitFor();
    await entry.locator(".badge").waitFor({ state: "detached" });
    await bubble(one.page, "Hello from").locator(".read").waitFor();
    // Typing is shown until the message comes.
    await two.page.locator("textarea").pressSequentially("And he", { delay: 20 });
    await one.page.locator(".main-title .is-typing").waitFor();
    await two.page.locator("textarea").pressSequentially("llo back https://example.com/a?b=c.", { delay: 2 });
    await two.page.keyboard.press("Enter");
    await bubble(one.page, "And hello back").waitFor();
    await one.page.locator(".main-title .is-typing").waitFor({ state: "detached" });
    const link = bubble(one.page, "And hello back").locator("a");
    assert.equal(await link.getAttribute("href"), "https://example.com/a?b=c");
    assert.match(await link.getAttribute("rel"), /noopener/);
    await one.page.locator(".main-title", { hasText: "online" }).waitFor();
    // Copying works without the clipboard that browsers keep from pages over plain http.
    await one.page.evaluate(() => {
      Object.defineProperty(navigator, "clipboard", { value: undefined });
      document.addEventListener("copy", () => Object.assign(window, { copied: document.activeElement.value }));
    });
    await menu(one.page, "Hello from", "Copy");
    assert.equal(await one.page.evaluate(() => window.copied), "Hello from the first gateway");
    // A recall takes the content away on both sides.
    await say(two.page, "A mistake");
    await bubble(one.page, "A mistake").waitFor();
    await menu(two.page, "A mistake", "Recall");
    await two.page.locator("dialog").getByRole("button", { name: "Recall" }).click();
    await two.page.locator(".bubble.recalled").waitFor();
    await one.page.locator(".bubble.recalled").waitFor();
    assert.equal(await bubble(one.page, "A mistake").count(), 0);
    // A reload shows the same.
    await one.page.reload();
    await choose(one.page, b);
    await bubble(one.page, "And hello back").waitFor();
    return [one, two];
  },

  /** One user goes offline: what is sent meanwhile, on both sides, arrives once after the return. */
  async offline(browser) {
    const [a, b] = [id("off-ann"), id("off-ben")];
    const one = await openWindow(browser);
    const two = await openWindow(browser);
    await enter(one.page, first, a);
    await enter(two.page, second, b);
    await chatWith(one.page, b);
    await say(one.page, "before");
    await chatWith(two.page, a);
    await bubble(two.page, "before").waitFor();
    await one.context.setOffline(true);
    // Chromium cuts requests, not open sockets: the gateway's end of the connection goes.
    await ask("kill", 0);
    await one.page.locator(".banner", { hasText: "offline" }).waitFor();
    await say(one.page, "written while offline");
    await bubble(one.page, "written while offline").locator("[data-state=sending]").waitFor();
    await say(two.page, "sent meanwhile");
    await bubble(two.page, "sent meanwhile").locator("[data-state=stored]").waitFor();
    await ask("start", 0);
    await one.context.setOffline(false);
    await bubble(one.page, "sent meanwhile").waitFor();
    await bubble(one.page, "written while offline").locator("[data-state=stored]").waitFor();
    await bubble(two.page, "written while offline").waitFor();
    await one.page.locator(".banner").waitFor({ state: "detached" });
    for (const { page } of [one, two]) {
      assert.equal(await page.locator("article.message", { hasText: "written while offline" }).count(), 1);
      assert.equal(await page.locator("article.message", { hasText: "sent meanwhile" }).count(), 1);
    }
    return [one, two];
  },

  /** A gateway is killed while both write: nothing is lost or shown twice. */
  async killed(browser) {
    const [a, b] = [id("kill-ann"), id("kill-ben")];
    const one = await openWindow(browser);
    const two = await openWindow(browser);
    await enter(one.page, first, a);
    await enter(two.page, second, b);
    await chatWith(one.page, b);
    await chatWith(two.page, a);
    const all = [];
    const write = async (page, text) => {
      all.push(text);
      await say(page, text);
    };
    for (let n = 0; n < 10; n++) {
      await write(one.page, `first ${n} ${run}`);
      await write(two.page, `second ${n} ${run}`);
      if (n === 3) await ask("kill", 0);
      if (n === 6) await ask("start", 0);
    }
    for (const { page } of [one, two]) {
      await until("all messages, stored, once each", async () => {
        const texts = await page.locator("article.message .text").allInnerTexts();
        const waiting = await page.locator("[data-state=sending], [data-state=failed]").count();
        return waiting === 0 && all.every((text) => texts.filter((one) => one === text).length === 1);
      });
    }
    const order = async (page) => (await page.locator("article.message .text").allInnerTexts()).join("|");
    await until("the same order on both sides", async () => (await order(one.page)) === (await order(two.page)));
    return [one, two];
  },

  /** 2,000 messages arrive while the reader scrolls: the page answers, and the place is kept. */
  async burst(browser) {
    const [a, b] = [id("busy-ann"), id("busy-ben")];
    const conversation = await group(`Busy ${run}`, b, [a]);
    await ask("say", second, b, conversation, 300, "earlier");
    const one = await openWindow(browser);
    await enter(one.page, first, a);
    await choose(one.page, `Busy ${run}`);
    await one.page.locator("article.message").last().waitFor();
    const timeline = one.page.locator(".timeline");
    // In the middle of the history.
    await timeline.hover();
    await one.page.mouse.wheel(0, -2500);
    await one.page.locator(".to-newest").waitFor();
    const place = () =>
      one.page.evaluate(() => {
        const box = document.querySelector(".timeline").getBoundingClientRect();
        const rows = [...document.querySelectorAll("article.message")];
        const row = rows.find((one) => one.getBoundingClientRect().top >= box.top + 100);
        return row?.dataset.seq;
      });
    await one.page.waitForTimeout(500);
    const before = await place();
    await one.page.evaluate(() => {
      window.longest = 0;
      let last = performance.now();
      const frame = (now) => {
        window.longest = Math.max(window.longest, now - last);
        last = now;
        if (!window.isOver) requestAnimationFrame(frame);
      };
      requestAnimationFrame(frame);
    });
    await ask("say", second, b, conversation, 2000, "burst");
    await one.page.locator(".to-newest.has-new", { hasText: "2,000" }).waitFor({ timeout: 60_000 });
    assert.equal(await place(), before, "the place in the history is kept");
    for (let n = 0; n < 10; n++) {
      await one.page.mouse.wheel(0, -400);
      await one.page.waitForTimeout(30);
    }
    await one.page.locator(".to-newest").click();
    await bubble(one.page, "burst 1999").waitFor();
    // At the end, the page follows.
    await ask("say", second, b, conversation, 500, "more");
    await bubble(one.page, "more 499").waitFor();
    const rows = await one.page.locator("article.message").count();
    assert.ok(rows < 120, `${rows} rows are in the document`);
    const longest = await one.page.evaluate(() => {
      window.isOver = true;
      return window.longest;
    });
    console.log(`longest frame of the burst: ${Math.round(longest)} ms; ${rows} rows in the document`);
    assert.ok(longest < 1_500, `a frame took ${longest} ms`);
    // The whole history can be scrolled to.
    await until(
      "the beginning of the history",
      async () => {
        await timeline.evaluate((box) => box.scrollTo(0, 0));
        return (await one.page.locator(".top-note", { hasText: "beginning" }).count()) > 0;
      },
      90_000,
    );
    await bubble(one.page, "earlier 0").first().waitFor();
    return [one];
  },

  /** A reload right after reading: what was read stays read, here and on the server. */
  async read(browser) {
    const [a, b] = [id("read-ann"), id("read-ben")];
    const one = await openWindow(browser);
    await enter(one.page, first, a);
    const entry = one.page.locator(".entry", { hasText: b });
    for (let round = 0; round < 8; round++) {
      // The first of the messages is read on its own; the position after the others waits for the pause after it.
      for (const text of ["first", "second", "third"]) {
        await ask("frame", second, b, JSON.stringify({ to: a, payload: { content: `${text} of ${round}` } }));
        if (round === 0 && text === "first") await choose(one.page, b);
      }
      await bubble(one.page, `third of ${round}`).waitFor();
      await entry.locator(".badge").waitFor({ state: "detached" });
      await one.page.reload({ waitUntil: "commit" });
      await one.page.locator(".status-dot.online").waitFor();
      await until("the server's read position", async () => {
        const { conversations } = await call("GET", `/api/conversations?user_id=${a}`);
        return conversations[0].unread === 0;
      });
      assert.equal(await entry.locator(".badge").count(), 0, `round ${round}: read messages are unread again`);
      await choose(one.page, b);
      await bubble(one.page, `third of ${round}`).waitFor();
    }
    return [one];
  },

  /** Two tabs of one user: what one sends or reads, the other one shows. */
  async tabs(browser) {
    const [a, b] = [id("tab-ann"), id("tab-ben")];
    const one = await openWindow(browser);
    const two = await openWindow(browser);
    await enter(two.page, second, b);
    await enter(one.page, first, a);
    const tab = await one.context.newPage();
    await enter(tab, first, a);
    await chatWith(one.page, b);
    await say(one.page, "from the first tab");
    await choose(tab, b);
    await bubble(tab, "from the first tab").waitFor();
    await say(tab, "from the second tab");
    await bubble(one.page, "from the second tab").locator("[data-state=stored]").waitFor();
    // Unread in both, read in both.
    await one.page.keyboard.press("Escape");
    await one.page.locator(".empty").waitFor();
    await tab.keyboard.press("Escape");
    await tab.locator(".empty").waitFor();
    await chatWith(two.page, a);
    await say(two.page, "to both tabs");
    for (const page of [one.page, tab]) await page.locator(".entry .badge", { hasText: "1" }).waitFor();
    await tab.bringToFront();
    await choose(tab, b);
    for (const page of [one.page, tab]) await page.locator(".entry .badge").waitFor({ state: "detached" });
    // The language is the same in both.
    await tab.getByRole("button", { name: "Settings", exact: true }).click();
    await tab.getByRole("button", { name: "简体中文" }).click();
    await one.page.getByPlaceholder("搜索会话").waitFor();
    return [one, two];
  },

  /** A token that ends while its user types: the page asks for the password, and nothing that was typed is lost. */
  async renewal(browser) {
    const user = id("renew-ann");
    await call("POST", "/api/register", { user_id: user, password: "correct horse" });
    const one = await openWindow(browser);
    await one.page.goto(first);
    await one.page.getByRole("button", { name: "Sign in", exact: true }).click();
    await one.page.getByLabel("User name").fill(user);
    await one.page.getByLabel("Password").fill("wrong horse");
    await one.page.locator("form").getByRole("button", { name: "Sign in" }).click();
    await one.page.getByText("user_id or password is wrong").waitFor();
    await one.page.getByLabel("Password").fill("correct horse");
    await one.page.locator("form").getByRole("button", { name: "Sign in" }).click();
    await online(one.page);
    assert.ok(!one.page.url().includes("token"), one.page.url());
    await chatWith(one.page, id("renew-ben"));
    await one.page.locator("textarea").fill("typed before the end of the token");
    // The tokens of this gateway live for 25 s, so that the warning comes at once.
    await one.page.getByText("Your session ends").waitFor();
    await one.page.locator("textarea").press("End");
    await one.page.locator("textarea").pressSequentially(", and after");
    await one.page.getByText("Your session has ended").waitFor({ timeout: 40_000 });
    await one.page.keyboard.press("Enter");
    await bubble(one.page, "typed before").locator("[data-state=sending]").waitFor();
    await one.page.locator("textarea").fill("still here");
    await one.page.getByRole("button", { name: "Stay signed in" }).click();
    await one.page.getByLabel("Password").fill("correct horse");
    await one.page.locator("dialog").getByRole("button", { name: "Stay signed in" }).click();
    await bubble(one.page, "typed before the end of the token, and after").locator("[data-state=stored]").waitFor();
    assert.equal(await one.page.locator("textarea").inputValue(), "still here");
    return [one];
  },

  /** Groups: made, renamed, members added, muted and removed, left, dismissed. */
  async groups(browser) {
    const [a, b, c] = [id("grp-ann"), id("grp-ben"), id("grp-cat")];
    const one = await openWindow(browser);
    const two = await openWindow(browser);
    await enter(one.page, first, a);
    await enter(two.page, second, b);
    await one.page.getByRole("button", { name: "New conversation" }).first().click();
    await one.page.getByRole("button", { name: "New group" }).click();
    await one.page.getByLabel("Group name").fill("Weekend");
    await one.page.getByLabel("Members (user names").fill(`${b}, ${c}`);
    await one.page.getByRole("button", { name: "Create group" }).click();
    await one.page.locator(".main-title", { hasText: "3 members" }).waitFor();
    await say(one.page, "Who is coming?");
    await choose(two.page, "Weekend");
    await bubble(two.page, "Who is coming?").waitFor();
    await one.page.getByRole("button", { name: "Show details" }).click();
    await one.page.getByRole("button", { name: "Rename group" }).click();
    await one.page.locator("dialog").getByLabel("Group name").fill("Weekend at the lake");
    await one.page.locator("dialog").getByRole("button", { name: "Save" }).click();
    await two.page.locator(".main-title", { hasText: "Weekend at the lake" }).waitFor();
    const act = async (user, action) => {
      await one.page.getByRole("button", { name: `Actions for ${user}` }).click();
      await one.page.getByRole("menuitem", { name: action }).click();
    };
    await act(b, "Mute for an hour");
    await one.page.locator(".person", { hasText: b }).getByText("muted").waitFor();
    await say(two.page, "May I?");
    await bubble(two.page, "May I?").getByText("Not sent").waitFor();
    await act(b, "End mute");
    await one.page.locator(".person", { hasText: b }).getByText("muted").waitFor({ state: "detached" });
    await bubble(two.page, "May I?").getByRole("button", { name: "Try again" }).click();
    await bubble(one.page, "May I?").waitFor();
    await menu(one.page, "Who is coming?", "Read by");
    await one.page.locator("dialog .person", { hasText: b }).waitFor();
    await one.page.keyboard.press("Escape");
    await act(b, "Make admin");
    await one.page.locator(".person", { hasText: b }).getByText("Admin").waitFor();
    await act(c, "Remove from group");
    await one.page.locator("dialog").getByRole("button", { name: "Remove from group" }).click();
    await one.page.locator(".person", { hasText: c }).waitFor({ state: "detached" });
    await one.page.getByRole("button", { name: "Add members" }).click();
    await one.page.locator("dialog input").fill("two words{");
    await one.page.locator("dialog").getByRole("button", { name: "Add" }).click();
    await one.page.locator("dialog .error-text").waitFor();
    await one.page.locator("dialog input").fill(c);
    await one.page.locator("dialog").getByRole("button", { name: "Add" }).click();
    await one.page.locator(".person", { hasText: c }).waitFor();
    // The other one leaves; the owner dismisses the group.
    await two.page.getByRole("button", { name: "Show details" }).click();
    await two.page.getByRole("button", { name: "Leave group" }).click();
    await two.page.locator("dialog").getByRole("button", { name: "Leave group" }).click();
    await two.page.locator(".entry", { hasText: "Weekend at the lake" }).waitFor({ state: "detached" });
    await one.page.getByRole("button", { name: "Show details" }).click();
    await one.page.getByRole("button", { name: "Show details" }).click();
    await one.page.locator(".person", { hasText: c }).waitFor();
    assert.equal(await one.page.locator(".person", { hasText: b }).count(), 0);
    await one.page.getByRole("button", { name: "Dismiss group" }).click();
    await one.page.locator("dialog").getByRole("button", { name: "Dismiss group" }).click();
    await one.page.locator(".entry", { hasText: "Weekend at the lake" }).waitFor({ state: "detached" });
    return [one, two];
  },

  /** Hostile and odd content: HTML, 4,096 bytes of accents, right-to-left, names that are HTML, wrong clocks. */
  async content(browser) {
    const [a, b] = [id("odd-ann"), `<img/src=x/onerror=alert(1)>${run}`];
    const one = await openWindow(browser);
    await enter(one.page, first, a);
    const send = (content, more = {}) =>
      ask("frame", second, encodeURIComponent(b), JSON.stringify({ to: a, payload: { content, ...more } }));
    await send("<script>alert(1)</script><b>bold</b>");
    await send(`e${"\u0301".repeat(2_047)}`);
    await send("שלום עולם! مرحبا بالعالم 😀");
    await send("你好，世界！点击 https://example.com/路径。谢谢");
    await send("javascript:alert(1) data:text/html,x http://user@example.com/ https://ok.example/(x)");
    await send("from the year 9999", { send_time: 253_370_764_800_000 });
    await send("from 1970", { send_time: 0 });
    await send("the end of time", { send_time: 8_640_000_000_000_000 });
    await send(`long ${"word ".repeat(800)}`);
    await send("😀👍🏽🇨🇳");
    await choose(one.page, b);
    await bubble(one.page, "😀👍🏽🇨🇳").waitFor();
    await one.page.locator(".bubble.jumbo").waitFor();
    const text = bubble(one.page, "<script>alert(1)</script>").locator(".text");
    await one.page.locator(".timeline").evaluate((box) => box.scrollTo(0, 0));
    await text.waitFor();
    assert.equal(await text.locator("*").count(), 0, "no element is made of a message");
    assert.equal(await one.page.locator("img[src=x]").count(), 0);
    const links = await one.page.locator(".text a").evaluateAll((all) => all.map((one) => one.getAttribute("href")));
    assert.deepEqual(links, ["https://example.com/%E8%B7%AF%E5%BE%84", "https://ok.example/(x)"]);
    // Accents do not leave their bubble.
    const box = one.page.locator("article.message").filter({ hasText: "e\u0301\u0301" });
    await box.first().waitFor();
    assert.ok((await box.first().boundingBox()).height < 700);
    await say(one.page, "still usable");
    await bubble(one.page, "still usable").locator("[data-state=stored]").waitFor();
    // Too long to be sent: the page says so, and keeps the text.
    await one.page.locator("textarea").fill("é".repeat(2_049));
    await one.page.getByText("Too long: 4,098 of 4,096 bytes").waitFor();
    await one.page.keyboard.press("Enter");
    assert.equal((await one.page.locator("textarea").inputValue()).length, 2_049);
    return [one];
  },

  /** A gateway that answers 503, and then is not there: the page says so and goes on by itself. */
  async unavailable(browser) {
    const one = await openWindow(browser);
    let isAway = true;
    await one.page.route("**/api", (route) =>
      isAway ? route.fulfill({ status: 503, body: '{"code":503,"message":"overloaded"}' }) : route.continue(),
    );
    await one.page.goto(first);
    await one.page.getByText("The server answered with an error (503)").waitFor();
    isAway = false;
    await one.page.getByLabel("Your name").waitFor();
    await enter(one.page, first, id("away-ann"));
    await chatWith(one.page, id("away-ben"));
    await ask("kill", 0);
    await one.page.getByText("Not connected").waitFor();
    await say(one.page, "kept until it is back");
    await ask("start", 0);
    await bubble(one.page, "kept until it is back").locator("[data-state=stored]").waitFor();
    await one.page.locator(".banner").waitFor({ state: "detached" });
    return [one];
  },

  /** The server's clock and this device's differ by an hour: named, and everything works. */
  async clock(browser) {
    const one = await openWindow(browser);
    await one.page.clock.install({ time: Date.now() - 3_600_000 });
    await one.page.clock.resume();
    await enter(one.page, first, id("late-ann"));
    await one.page.getByText("differ by 60 minutes").waitFor();
    await chatWith(one.page, id("late-ben"));
    await say(one.page, "what time is it?");
    await bubble(one.page, "what time is it?").locator("[data-state=stored]").waitFor();
    return [one];
  },

  /** Notifications by the service worker, and by the page where the browser has none. */
  async notifications(browser) {
    const windows = [];
    for (const part of ["ofThePage", "delivered", "kept", "setting"]) windows.push(...(await scenarios[part](browser)));
    return windows;
  },

  /** Without a service worker: only while the page is hidden, one for a conversation, and gone when it was read. */
  async ofThePage(browser) {
    const [a, b] = [id("note-ann"), id("note-ben")];
    const one = await openWindow(browser, { permissions: ["notifications"] });
    await one.page.addInitScript(() => {
      window.notes = [];
      // As in private windows of some browsers.
      delete Navigator.prototype.serviceWorker;
      window.isHidden = false;
      const granted = { get: () => "granted" };
      window.Notification = class {
        constructor(title, options) {
          Object.assign(this, { title, ...options, isOpen: true });
          window.notes.push(this);
        }
        close() {
          this.isOpen = false;
        }
      };
      Object.defineProperty(window.Notification, "permission", granted);
      Object.defineProperty(document, "visibilityState", { get: () => (window.isHidden ? "hidden" : "visible") });
    });
    const two = await openWindow(browser);
    await enter(one.page, first, a);
    await enter(two.page, second, b);
    await one.page.getByRole("button", { name: "Settings", exact: true }).click();
    await one.page.getByRole("button", { name: "Turn on notifications" }).click();
    await one.page.getByRole("button", { name: "Notifications are on" }).waitFor();
    await one.page.keyboard.press("Escape");
    await chatWith(two.page, a);
    await say(two.page, "seen at once");
    await one.page.locator(".entry", { hasText: "seen at once" }).waitFor();
    const hide = (isHidden) =>
      one.page.evaluate((to) => {
        window.isHidden = to;
        document.dispatchEvent(new Event("visibilitychange"));
      }, isHidden);
    const notes = () =>
      one.page.evaluate(() => window.notes.map(({ title, body, isOpen }) => ({ title, body, isOpen })));
    await hide(true);
    await say(two.page, "while it was hidden <b>");
    await until("a notification", async () => (await notes()).length === 1);
    assert.deepEqual(await notes(), [{ title: b, body: "while it was hidden <b>", isOpen: true }]);
    await until("the counter in the title", async () => (await one.page.title()) === "(2) Chat");
    await hide(false);
    await choose(one.page, b);
    await until("nothing unread", async () => (await one.page.title()) === "Chat");
    assert.equal((await notes())[0].isOpen, false);
    return [one, two];
  },

  /** 10,000 conversations: the list opens, scrolls and searches. */
  async many(browser) {
    const a = id("many-ann");
    await ask("conversations", first, a, 10_000);
    const one = await openWindow(browser);
    const begin = Date.now();
    await enter(one.page, first, a);
    await until(
      "10,000 conversations",
      async () =>
        (await one.page.evaluate(() => {
          const inner = document.querySelector(".list > div");
          return inner ? inner.getBoundingClientRect().height : 0;
        })) >=
        68 * 10_000,
      60_000,
    );
    console.log(`10,000 conversations are listed after ${Date.now() - begin} ms`);
    assert.ok((await one.page.locator(".entry").count()) < 80);
    await one.page.locator(".list").evaluate((list) => list.scrollTo(0, 300_000));
    await until("entries in the middle", async () => (await one.page.locator(".entry").count()) > 5);
    const typed = Date.now();
    await one.page.getByLabel("Search conversations").fill("peer-9876-");
    await one.page.locator(".entry").first().waitFor();
    await until("the search result", async () => (await one.page.locator(".entry").count()) === 1);
    console.log(`searched within ${Date.now() - typed} ms`);
    await one.page.keyboard.press("Enter");
    await say(one.page, "found you");
    await bubble(one.page, "found you").locator("[data-state=stored]").waitFor();
    return [one];
  },

  /** axe-core finds nothing, in both themes and on a phone; everything can be done with the keyboard. */
  async accessible(browser) {
    const [a, b] = [id("axe-ann"), id("axe-ben")];
    const windows = [];
    for (const colorScheme of ["light", "dark"]) {
      const one = await openWindow(browser, { colorScheme, reducedMotion: "reduce" });
      windows.push(one);
      const { page } = one;
      const check = axeOf(page, colorScheme);
      await page.goto(first);
      await page.getByLabel("Your name").waitFor();
      await check("demo");
      await page.getByRole("button", { name: "Create account" }).click();
      await check("register");
      await enter(page, first, a);
      await check("empty");
      const conversation = await group(`Group ${colorScheme}`, b, [a]);
      await ask("say", second, b, conversation, 3, "hello https://example.com");
      await chatWith(page, b);
      await say(page, "Hello");
      await bubble(page, "Hello").locator("[data-state=stored]").waitFor();
      await choose(page, `Group ${colorScheme}`);
      await bubble(page, "hello https://example.com 2").waitFor();
      await page.getByRole("button", { name: "Show details" }).click();
      await page.locator(".person", { hasText: b }).waitFor();
      await check("group with details");
      await page.getByRole("button", { name: "Show details" }).click();
      // What happens to messages, and what opens beside them.
      const send = (payload) => ask("frame", second, b, JSON.stringify({ conversation_id: conversation, payload }));
      const { payload: all } = await call("GET", `/api/conversations/${conversation}/messages?user_id=${a}`);
      const { seq } = all.find(({ msg_type }) => msg_type === 1);
      await send({ content: `@${a} look`, mentions: [a], reply_to: seq });
      await send({ msg_type: 4, edit_seq: seq, content: "edited hello" });
      await send({ msg_type: 5, react_seq: seq, reaction: "👍" });
      await send({ msg_type: 6, pin_seq: seq });
      await page.locator(".pin-bar", { hasText: "edited hello" }).waitFor();
      await bubble(page, "look").locator(".mention").waitFor();
      await check("changed messages");
      await act(page, "look", "React");
      await check("picker");
      await page.keyboard.press("Escape");
      await act(page, "look", "More actions");
      await check("menu");
      await page.keyboard.press("Escape");
      await act(page, "look", "Reply");
      await page.locator("textarea").pressSequentially("@");
      await page.getByRole("option").first().waitFor();
      await check("completion");
      await page.keyboard.press("Escape");
      await page.keyboard.press("Escape");
      await page.locator("textarea").fill("");
      await page.getByRole("button", { name: "Pinned messages" }).click();
      await check("pinned messages");
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Settings", exact: true }).click();
      await page.locator("dialog").getByLabel("Who may add you to groups").waitFor();
      await check("settings");
      await page.keyboard.press("Escape");
      await page.setViewportSize({ width: 390, height: 780 });
      await check("phone");
    }
    // By keyboard alone.
    const keyboard = await openWindow(browser);
    windows.push(keyboard);
    const { page } = keyboard;
    await enter(page, first, a);
    await page.keyboard.press("Control+k");
    await page.keyboard.type(b);
    await page.keyboard.press("Enter");
    await page.locator("textarea:focus").waitFor();
    await page.keyboard.type("by keyboard");
    await page.keyboard.press("Enter");
    await bubble(page, "by keyboard").locator("[data-state=stored]").waitFor();
    // A reaction: back to the actions of the newest message, the picker, its field.
    await page.locator("textarea").press("Shift+Tab");
    await page.getByRole("button", { name: "Attach files" }).press("Shift+Tab");
    const actions = bubble(page, "by keyboard").locator(".actions");
    await actions.getByRole("button", { name: "More actions" }).and(page.locator(":focus")).waitFor();
    for (const name of ["Edit", "Reply", "React"]) {
      await page.keyboard.press("Shift+Tab");
      await actions.getByRole("button", { name }).and(page.locator(":focus")).waitFor();
    }
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "React with 👍" }).and(page.locator(":focus")).waitFor();
    await page.keyboard.press("Enter");
    await bubble(page, "by keyboard").locator(".reactions button", { hasText: "👍" }).waitFor();
    await page.locator("textarea").focus();
    await page.keyboard.press("Alt+ArrowDown");
    await page.locator(".main-title", { hasText: "Group" }).waitFor();
    await page.keyboard.press("Escape");
    await page.locator(".empty").waitFor();
    return windows;
  },

  /** How long until a user sees the first message, and how large the bundle is. */
  async speed(browser) {
    const [a, b] = [id("fast-ann"), id("fast-ben")];
    const conversation = await group(`Fast ${run}`, b, [a]);
    await ask("say", second, b, conversation, 50, "message");
    const one = await openWindow(browser);
    await enter(one.page, first, a);
    await choose(one.page, `Fast ${run}`);
    await one.page.locator(".to-newest").click();
    await bubble(one.page, "message 49").waitFor();
    await until("the server's read position", async () => {
      const { conversations } = await call("GET", `/api/conversations?user_id=${a}`);
      return conversations[0].unread === 0;
    });
    const times = [];
    for (let n = 0; n < 5; n++) {
      await one.page.evaluate(() => performance.mark("reload"));
      const begin = Date.now();
      await one.page.reload({ waitUntil: "commit" });
      await one.page.locator(".entry", { hasText: "message 49" }).waitFor();
      await one.page.locator(".entry").first().click();
      await bubble(one.page, "message 49").waitFor();
      times.push(Date.now() - begin);
    }
    const size = async (path) => {
      const response = await fetch(`${first}${path}`, { headers: { "accept-encoding": "gzip" } });
      return Number(response.headers.get("content-length"));
    };
    const [js, css] = [await size("/web/app.js"), await size("/web/app.css")];
    times.sort((x, y) => x - y);
    console.log(
      `first message after a reload: median ${times[2]} ms; script ${js} bytes, style ${css} bytes, compressed`,
    );
    assert.ok(js > 0 && js < 90_000 && css < 15_000, `${js} ${css}`);
    assert.ok(times[2] < 3_000, `${times}`);
    return [one];
  },
};

const name = process.argv[2] ?? "";
const scenario = scenarios[name];
assert.ok(scenario, `unknown scenario ${name}; there are: ${Object.keys(scenarios).join(", ")}`);
const browser = await launch();
try {
  const windows = await scenario(browser);
  for (const { problems } of windows) assert.deepEqual(problems, [], "errors of the page");
  console.log(`${name}: done`);
} catch (error) {
  for (const [n, context] of browser.contexts().entries()) {
    for (const [m, page] of context.pages().entries()) {
      const path = `${process.env.PICTURES ?? "/tmp"}/web-${name}-${n}-${m}.png`;
      await page.screenshot({ path }).catch(() => {});
      console.log(`a picture of the page is in ${path}`);
    }
  }
  throw error;
} finally {
  await browser.close();
}
process.exit(0);
