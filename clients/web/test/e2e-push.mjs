// Notifications while the page is closed or hidden: subscription, service worker, clicks, and the setting.
//
// The browser of a test reaches no push service. So `pushManager.subscribe` is replaced at the edge of the browser, pushes
// are delivered by the DevTools protocol, and the calls about subscriptions go to the server in push-front.mjs; all else
// goes to the gateway.

import assert from "node:assert/strict";
import { axeOf, bubble, chatWith, choose, enter, online, openWindow, say } from "./browser.mjs";
import { KEYS, pushFront } from "./push-front.mjs";

/** A subscription as browsers have them, which outlives the page; and what the page asks the user. */
const edge = () => {
  const KEY = "test.subscription";
  const plain = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));
  const found = () => {
    const kept = JSON.parse(localStorage.getItem(KEY));
    return (
      kept && {
        endpoint: kept.endpoint,
        options: { applicationServerKey: Uint8Array.from(atob(kept.key), (letter) => letter.charCodeAt(0)).buffer },
        toJSON: () => ({ endpoint: kept.endpoint, expirationTime: null, keys: { p256dh: "BPoint", auth: "secret" } }),
        async unsubscribe() {
          localStorage.removeItem(KEY);
          return true;
        },
      }
    );
  };
  PushManager.prototype.getSubscription = async () => found();
  PushManager.prototype.subscribe = async ({ userVisibleOnly, applicationServerKey: key }) => {
    if (!userVisibleOnly || Notification.permission !== "granted") throw new Error("not allowed");
    if (window.name === "no push service") throw new Error("Registration failed - push service error");
    const endpoint = `https://push.example/${Math.random().toString(36).slice(2)}`;
    localStorage.setItem(KEY, JSON.stringify({ endpoint, key: plain(key) }));
    return found();
  };
  window.asked = 0;
  Notification.requestPermission = async () => {
    window.asked++;
    await window.grant?.();
    return Notification.permission;
  };
  window.isHidden = false;
  Object.defineProperty(document, "visibilityState", { get: () => (window.isHidden ? "hidden" : "visible") });
};

const NAMES = { off: "Turn on notifications", on: "Notifications are on" };

/** The scenario; the tools are those of e2e.mjs. */
export const pushes = ({ first, second, id, until }) => {
  /**
   * Sends a push to the service worker of this page, and waits until it is handled: Chromium may forget a notification
   * if it is asked for all of them while that one is being shown.
   */
  async function pusher({ context, page }, base) {
    const tools = await context.newCDPSession(page);
    let registrationId;
    tools.on("ServiceWorker.workerRegistrationUpdated", ({ registrations }) => {
      for (const one of registrations) if (one.scopeURL.startsWith(base)) registrationId = one.registrationId;
    });
    await tools.send("ServiceWorker.enable");
    await until("the registration of the service worker", () => registrationId);
    const [worker] = context.serviceWorkers();
    await worker.evaluate(() => {
      self.handled = 0;
      const { waitUntil } = ExtendableEvent.prototype;
      ExtendableEvent.prototype.waitUntil = function (promise) {
        if (this.type === "push") promise.finally(() => self.handled++);
        return waitUntil.call(this, promise);
      };
    });
    const handled = () => worker.evaluate(() => self.handled);
    return async (data) => {
      const before = await handled();
      const text = JSON.stringify(data);
      await tools.send("ServiceWorker.deliverPushMessage", { origin: base, registrationId, data: text });
      await until("the push is handled", async () => (await handled()) > before);
    };
  }

  const shown = (page) =>
    page.evaluate(async () => {
      const { getNotifications } = ServiceWorkerRegistration.prototype;
      const all = await getNotifications.call(await navigator.serviceWorker.ready);
      return all.map(({ title, body, tag, data, icon, lang, silent }) => ({
        title,
        body,
        tag,
        data,
        icon,
        lang,
        silent,
      }));
    });
  const settings = (page) => page.getByRole("button", { name: "Settings", exact: true }).click();
  const button = (page, state) => page.getByRole("button", { name: NAMES[state], exact: true });
  const hide = (page, isHidden) =>
    page.evaluate((to) => {
      window.isHidden = to;
      document.dispatchEvent(new Event("visibilitychange"));
    }, isHidden);
  const opened = async (browser, base, user, options = {}) => {
    const one = await openWindow(browser, options);
    await one.page.addInitScript(edge);
    await one.page.exposeFunction("grant", () => one.context.grantPermissions(["notifications"]));
    await enter(one.page, base, user);
    return one;
  };

  return {
    /** From the click to the end: subscription, pushes, what closes them, clicks, another key, sign-out. */
    async delivered(browser) {
      const { state, base, close } = await pushFront(first);
      const [a, b] = [id("push-ann"), id("push-ben")];
      const conversation = `private_${[a, b].sort().join("_")}`;
      const one = await opened(browser, base, a);
      const { page, context } = one;
      const two = await openWindow(browser);
      await enter(two.page, second, b);
      await chatWith(two.page, a);
      await say(two.page, "the first one");
      await page.locator(".entry", { hasText: "the first one" }).waitFor();

      // The permission is asked for after the click, and not before.
      await settings(page);
      await button(page, "off").waitFor();
      assert.deepEqual(await page.evaluate(() => [window.asked, Notification.permission]), [0, "default"]);
      assert.equal(context.serviceWorkers().length, 0, "no service worker before notifications are on");
      await button(page, "off").click();
      await page.getByText("You are notified while this page is closed, too.").waitFor();
      await button(page, "on").waitFor();
      assert.equal(await page.evaluate(() => window.asked), 1);
      assert.equal(state.subscriptions.length, 1);
      assert.equal(state.subscriptions[0].user, a);
      await page.keyboard.press("Escape");

      const push = await pusher(one, base);
      const message = (seq, more = {}) => ({
        type: "message",
        conversation_id: conversation,
        seq,
        title: b,
        body: `number ${seq}`,
        count: 1,
        sender_id: b,
        ...more,
      });
      const only = async () => {
        const all = await shown(page);
        return all.length === 1 ? all[0] : undefined;
      };
      // A hidden page shows the message itself; the push of it changes nothing, whether it comes before or after.
      await hide(page, true);
      const [worker] = context.serviceWorkers();
      await worker.evaluate(() => {
        const { showNotification } = self.registration;
        self.registration.showNotification = async (...words) => {
          await showNotification.apply(self.registration, words);
          self.hasShown = true;
        };
      });
      await say(two.page, "seen nowhere <b>");
      await until("the worker has shown it", () => worker.evaluate(() => self.hasShown));
      await until("a notification", async () => (await only())?.body === "seen nowhere <b>\n2 new messages");
      const { data: own } = await only();
      assert.deepEqual(own, { conversation_id: conversation, seq: own.seq, sender_id: b });
      await push(message(own.seq, { body: "the same" }));
      await push(message(own.seq - 1, { body: "an earlier one" }));
      await page.waitForTimeout(300);
      assert.equal((await only()).body, "seen nowhere <b>\n2 new messages");
      await until("the counter in the title", async () => (await page.title()) === "(2) Chat");
      // The page reads the conversation.
      await hide(page, false);
      await choose(page, b);
      await until("it is closed", async () => (await shown(page)).length === 0);
      await page.keyboard.press("Escape");
      await page.locator(".main-head").waitFor({ state: "detached" });

      // A push is shown, replaced by a later one, and not shown twice.
      await push(message(100));
      await until("a notification", async () => (await only())?.body === "number 100");
      const { icon, ...rest } = await only();
      assert.equal(new URL(icon).pathname, "/web/icon-192.png");
      assert.equal((await fetch(icon)).headers.get("content-type"), "image/png");
      const data = { conversation_id: conversation, seq: 100, sender_id: b };
      assert.deepEqual(rest, {
        title: b,
        body: "number 100",
        tag: `im ${conversation}`,
        data,
        lang: "en",
        silent: false,
      });
      await worker.evaluate(() => {
        for (const name of ["setAppBadge", "clearAppBadge"]) {
          WorkerNavigator.prototype[name] = async (count) => void Object.assign(self, { badge: count ?? 0 });
        }
      });
      const badge = () => worker.evaluate(() => self.badge);
      await push(message(102, { count: 3, mention: true, badge: 3, quiet: true }));
      await until("a later one instead", async () => (await only())?.data.seq === 102);
      assert.equal((await only()).body, "You were mentioned: number 102\n3 new messages");
      assert.equal((await only()).silent, true, "a quiet one");
      await until("the number on the icon", async () => (await badge()) === 3);
      await push(message(101));
      await push({ type: "from the future" });
      await push(message(5, { conversation_id: "group_other", title: "Other" }));
      await until("another conversation", async () => (await shown(page)).length === 2);
      assert.ok((await shown(page)).some(({ body }) => body.startsWith("You were mentioned: number 102")));

      // What was read elsewhere goes, up to there, and what comes late stays away.
      const read = (seq, conversation_id = conversation) => ({ type: "read", conversation_id, seq });
      await push(read(101));
      await push(read(5, "group_other"));
      await until("one is left", async () => (await only())?.data.seq === 102);
      await push(read(103));
      await until("all are read", async () => (await shown(page)).length === 0);
      await until("no number on the icon", async () => (await badge()) === 0);
      await push(message(103));
      await push(message(1, { conversation_id: "group_other" }));
      await push(message(6, { conversation_id: "group_other" }));
      await until("the next one", async () => (await only())?.data.seq === 6);
      await push(read(6, "group_other"));
      await until("it is read", async () => (await shown(page)).length === 0);

      // In the language of the page.
      await settings(page);
      await page.getByRole("button", { name: "简体中文" }).click();
      await push(message(104, { body: undefined, count: 2 }));
      await until("a notification in Chinese", async () => (await only())?.body === "2 条新消息");
      assert.equal((await only()).lang, "zh");
      await page.getByRole("button", { name: "English" }).click();
      await page.keyboard.press("Escape");
      await push(read(104));

      // A click opens the conversation in the page that is there, and closes the notification.
      const click = () =>
        worker.evaluate(async () => {
          const [notification] = await self.registration.getNotifications();
          const event = new NotificationEvent("notificationclick", { notification });
          const waits = [];
          Object.defineProperty(event, "waitUntil", { value: (promise) => waits.push(promise) });
          self.opened = [];
          self.clients.openWindow = async (address) => void self.opened.push(address);
          self.dispatchEvent(event);
          await Promise.all(waits);
          return self.opened;
        });
      assert.equal(await page.locator(".main-head").count(), 0);
      await push(message(110));
      await until("a notification", async () => (await only())?.data.seq === 110);
      assert.deepEqual(await click(), []);
      await bubble(page, "the first one").waitFor();
      assert.equal((await shown(page)).length, 0);

      // The conversation is visible now: nothing is shown for it, but for others.
      await push(message(111));
      await push(message(7, { conversation_id: "group_other" }));
      await until("the other one", async () => (await shown(page)).length === 1);
      assert.equal((await only()).data.conversation_id, "group_other");
      await push(read(7, "group_other"));
      await hide(page, true);
      await push(message(112));
      await until("shown while the page is hidden", async () => (await only())?.data.seq === 112);

      // Without a page, a window is opened at the address of the conversation.
      const elsewhere = await context.newPage();
      await elsewhere.goto(`${base}/web/licenses.txt`);
      await page.close();
      assert.deepEqual(await click(), [`/#conversation=${conversation}&from=${b}`]);
      const next = await context.newPage();
      await next.addInitScript(edge);
      await next.goto(`${base}/#conversation=${conversation}&from=${b}`);
      await enterHere(next, a);
      await bubble(next, "the first one").waitFor();
      assert.equal(new URL(next.url()).hash, "");
      await elsewhere.close();
      close();
      return [one, two];
    },

    /** What happens to the subscription: a reload, another key, the browser's own change, another user, the end. */
    async kept(browser) {
      const { state, base, close } = await pushFront(first);
      const [a, b] = [id("sub-ann"), id("sub-ben")];
      const one = await opened(browser, base, a, { permissions: ["notifications"] });
      const { page, context } = one;
      await settings(page);
      await button(page, "off").click();
      await page.getByText("You are notified while this page is closed, too.").waitFor();
      assert.equal(await page.evaluate(() => window.asked), 0, "it was granted before");
      const of = (user) => state.subscriptions.filter((found) => found.user === user);
      const [{ id: begun, endpoint }] = of(a);
      await page.keyboard.press("Escape");

      // A reload tells the same again. A server that has lost it has it back.
      state.subscriptions = [];
      await page.reload();
      await until("the server has it again", () => of(a).length === 1);
      assert.equal(of(a)[0].endpoint, endpoint);
      assert.notEqual(of(a)[0].id, begun);

      // Another key of the server: another subscription, and the one before is removed.
      state.key = KEYS[1];
      await page.reload();
      await until("a subscription of the new key", () => of(a).length === 1 && of(a)[0].endpoint !== endpoint);
      const { endpoint: second } = of(a)[0];
      // The browser replaces it by itself.
      await page.evaluate(() => localStorage.removeItem("test.subscription"));
      const [worker] = context.serviceWorkers();
      await worker.evaluate(async () => {
        const event = new ExtendableEvent("pushsubscriptionchange");
        const waits = [];
        Object.defineProperty(event, "waitUntil", { value: (promise) => waits.push(promise) });
        self.dispatchEvent(event);
        await Promise.all(waits);
      });
      await until("the next subscription", () => of(a).length === 1 && of(a)[0].endpoint !== second);

      // Off and on, by keyboard.
      await settings(page);
      await button(page, "on").focus();
      await page.keyboard.press("Enter");
      await button(page, "off").and(page.locator(":focus")).waitFor();
      await until("it is removed", () => of(a).length === 0);
      assert.equal(await page.evaluate(() => localStorage.getItem("test.subscription")), null);
      await page.keyboard.press("Space");
      await button(page, "on").and(page.locator(":focus")).waitFor();
      await until("it is there again", () => of(a).length === 1);

      // The end of the session is the end of the subscription.
      const push = await pusher(one, base);
      await push({ type: "message", conversation_id: "group_x", seq: 1, title: "X", count: 1, sender_id: b });
      await until("a notification", async () => (await shown(page)).length === 1);
      await page.getByRole("button", { name: "Sign out", exact: true }).click();
      await page.getByLabel("Your name").waitFor();
      await until("it is removed", () => of(a).length === 0);
      await until("no notification is left", async () => (await shown(page)).length === 0);
      assert.equal(await page.evaluate(() => localStorage.getItem("test.subscription")), null);

      // Another user turns them on, and the next one does not inherit them. The server is away at the sign-out.
      await enterHere(page, b);
      await settings(page);
      await button(page, "off").click();
      await until("the other user's", () => of(b).length === 1);
      await page.evaluate(() => sessionStorage.clear());
      await page.reload();
      await enterHere(page, a);
      await settings(page);
      await button(page, "off").waitFor();
      assert.equal(await page.evaluate(() => localStorage.getItem("test.subscription")), null);
      await button(page, "off").click();
      await until("the first user's", () => of(a).length === 1);
      await context.route("**/api/push/**", (route) => route.abort());
      await page.getByRole("button", { name: "Sign out", exact: true }).click();
      await page.getByLabel("Your name").waitFor();
      assert.equal(await page.evaluate(() => localStorage.getItem("test.subscription")), null);
      close();
      return [one];
    },

    /** The setting in all its states, in both themes, on a phone. */
    async setting(browser) {
      const windows = [];
      const { state, base, close } = await pushFront(first);
      for (const colorScheme of ["light", "dark"]) {
        const one = await opened(browser, base, id(`set-${colorScheme}`), { colorScheme, reducedMotion: "reduce" });
        windows.push(one);
        const { page, context } = one;
        const check = axeOf(page, colorScheme);
        const picture = async (name) => {
          if (!process.env.PICTURES) return;
          await page.locator("#notifications-reach, dialog .hint").first().scrollIntoViewIfNeeded();
          await page.screenshot({ path: `${process.env.PICTURES}/setting-${name}-${colorScheme}.png` });
        };
        const again = async () => {
          await page.keyboard.press("Escape");
          await page.locator("dialog").waitFor({ state: "detached" });
          await settings(page);
        };
        await settings(page);
        await button(page, "off").waitFor();
        await check("off");
        await picture("off");
        state.isOffered = false;
        await again();
        await page.getByText("This server does not offer notifications to closed pages").waitFor();
        await check("not offered");
        await picture("not-offered");
        state.isOffered = true;
        await button(page, "off").click();
        await page.getByText("You are notified while this page is closed, too.").waitFor();
        await check("on");
        await picture("on");
        await page.setViewportSize({ width: 390, height: 780 });
        await check("phone");
        await picture("phone");
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= 390), "no sideways scrolling");
        await page.setViewportSize({ width: 1180, height: 760 });
        // A push service that fails is named, and what is left of notifications stays on.
        await button(page, "on").click();
        await button(page, "off").waitFor();
        await page.evaluate(() => {
          window.name = "no push service";
        });
        await button(page, "off").click();
        await page.getByText("only while this page is open: Registration failed - push service error").waitFor();
        await button(page, "on").waitFor();
        await check("failed");
        await picture("failed");
        // All but the named permissions are refused: shown at once.
        await context.clearPermissions();
        await context.grantPermissions(["geolocation"]);
        await page.getByText("Your browser blocks notifications for this page.").waitFor();
        await check("blocked");
        await picture("blocked");
        await page.addInitScript(() => {
          delete window.Notification;
        });
        await page.reload();
        await online(page);
        await settings(page);
        await page.getByText("This browser has no notifications.").waitFor();
        await check("unsupported");
      }
      close();
      return windows;
    },
  };
};

/** Begins as a demo user on the page that is open. */
async function enterHere(page, name) {
  await page.getByLabel("Your name").fill(name);
  await page.getByRole("button", { name: "Start chatting" }).click();
  await page.locator(".side").waitFor();
  await online(page);
}
