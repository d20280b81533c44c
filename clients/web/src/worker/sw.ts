/**
 * The service worker: shows notifications, also while no page is open. It answers no requests of pages and caches nothing.
 *
 * Pushes and the messages of pages are handled one after the other, since each reads which notifications are shown, and
 * changes them.
 */

import { pushTexts } from "../i18n/push.ts";
import {
  type Action,
  type Answer,
  addressOf,
  type Bounds,
  decide,
  type Incoming,
  isOurs,
  parse,
  type ToPage,
  type ToWorker,
  tagOf,
  wording,
} from "../lib/notifications.ts";
import { load, save } from "./storage.ts";

declare const self: ServiceWorkerGlobalScope;

/** A page that does not answer within this time is taken to be asleep. */
const ANSWER_MS = 500;
const ICON = "/web/icon-192.png";
const BADGE = "/web/badge-96.png";

let queue: Promise<unknown> = Promise.resolve();

/** Runs a step after those before it. */
function enqueue(step: () => Promise<void>): Promise<void> {
  const done = queue.then(step);
  queue = done.catch(() => {});
  return done;
}

self.addEventListener("install", () => void self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("push", (event) => {
  event.waitUntil(
    enqueue(async () => {
      const incoming = parse(json(event.data));
      if (incoming) await apply(incoming, true);
      await beSeen();
    }),
  );
});

self.addEventListener("message", (event) => {
  const told = event.data as ToWorker;
  event.waitUntil(
    enqueue(async () => {
      if (told.type === "language") return save("language", told.language);
      if (told.type === "end") return end();
      const incoming = parse(told);
      if (incoming) await apply(incoming, false);
    }),
  );
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const data: unknown = event.notification.data;
  if (isOurs(data)) event.waitUntil(open(data));
});

// Some browsers give the new subscription; for the others the page makes one.
self.addEventListener("pushsubscriptionchange", (event) => {
  event.waitUntil(
    (async () => {
      const { oldSubscription: old, newSubscription: next } = event as PushSubscriptionChangeEvent;
      // The next page that is opened does it, if this fails.
      if (old && !next) await self.registration.pushManager.subscribe(old.options).catch(() => {});
      for (const page of await pages()) tell(page, { type: "subscription" });
    })(),
  );
});

function json(data: PushMessageData | null): unknown {
  try {
    return data?.json();
  } catch {
    return undefined;
  }
}

async function apply(incoming: Incoming, isPush: boolean): Promise<void> {
  const { conversation_id: id } = incoming;
  const bounds = (await load<Bounds>("bounds")) ?? new Map<string, number>();
  const present = await presentOf(id);
  const onScreen = present && isOurs(present.data) ? present.data.seq : undefined;
  const isLookedAt = incoming.type === "message" && (await asked(id)).some(({ answer }) => answer?.isLookedAt);
  const { action, bounds: next } = decide(incoming, bounds, onScreen, isLookedAt);
  if (next !== bounds) await save("bounds", next);
  if (isPush || action !== "repeat") await act(action, incoming, present);
  // An open page counts by itself.
  if (isPush) await badge(incoming);
}

async function act(action: Action, incoming: Incoming, present: Notification | undefined): Promise<void> {
  if (action === "close") present?.close();
  if (action === "repeat" && present) {
    const { title, body, tag, data, lang } = present;
    await self.registration.showNotification(title, { ...LOOKS, body, tag, data, lang, silent: true });
  }
  if (action !== "show" || incoming.type !== "message") return;
  const language = await languageOf();
  const { title, body } = wording(incoming, pushTexts[language]);
  const { conversation_id, seq, sender_id, quiet = false } = incoming;
  await self.registration.showNotification(title, {
    ...LOOKS,
    body,
    tag: tagOf(conversation_id),
    // A new message makes a sound again.
    renotify: !quiet,
    silent: quiet,
    data: { conversation_id, seq, sender_id },
    lang: language,
  } as NotificationOptions);
}

const LOOKS: NotificationOptions = { icon: ICON, badge: BADGE, dir: "auto" };

const presentOf = async (id: string): Promise<Notification | undefined> =>
  (await self.registration.getNotifications({ tag: tagOf(id) }))[0];

async function languageOf(): Promise<"en" | "zh"> {
  return (await load<"en" | "zh">("language")) ?? (/^zh\b/i.test(navigator.language) ? "zh" : "en");
}

/**
 * Browsers allow pushes under the condition that each one shows something. Where it has changed nothing that is visible,
 * a notification is shown for a moment.
 */
async function beSeen(): Promise<void> {
  const windows = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  if (windows.some(({ visibilityState }) => visibilityState === "visible")) return;
  if ((await self.registration.getNotifications()).length > 0) return;
  const tag = "im";
  await self.registration.showNotification(pushTexts[await languageOf()].appName, { ...LOOKS, tag, silent: true });
  for (const shown of await self.registration.getNotifications({ tag })) shown.close();
}

/** The number on the app's icon, where there is one. */
async function badge({ type, badge: count }: Incoming): Promise<void> {
  if (!("setAppBadge" in navigator)) return;
  try {
    if (count !== undefined) await navigator.setAppBadge(count);
    else if (type === "read" && (await self.registration.getNotifications()).length === 0)
      await navigator.clearAppBadge();
  } catch {
    // The page is not installed, or the browser does not allow it.
  }
}

async function end(): Promise<void> {
  for (const shown of await self.registration.getNotifications()) shown.close();
  await save("bounds", new Map());
  if ("clearAppBadge" in navigator) await navigator.clearAppBadge().catch(() => {});
}

/** The pages of the chat; not the operator's page. */
async function pages(): Promise<readonly WindowClient[]> {
  const all = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  return all.filter(({ url }) => new URL(url).pathname === "/");
}

const tell = (page: WindowClient, told: ToPage, transfer: Transferable[] = []): void =>
  page.postMessage(told, transfer);

/** Asks all pages whether they show a conversation. */
async function asked(conversationId: string): Promise<{ page: WindowClient; answer: Answer | undefined }[]> {
  const ask = (page: WindowClient): Promise<Answer | undefined> =>
    new Promise((resolve) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = ({ data }) => resolve(data as Answer);
      setTimeout(resolve, ANSWER_MS);
      tell(page, { type: "ask", conversation_id: conversationId }, [port2]);
    });
  return Promise.all((await pages()).map(async (page) => ({ page, answer: await ask(page) })));
}

/** After a click: an open page of the user, or a new window. */
async function open(data: Parameters<typeof addressOf>[0]): Promise<void> {
  const all = await asked(data.conversation_id);
  // Pages of other users in this browser answer as well; one that is asleep cannot.
  const own = all.find(({ answer }) => answer?.isOwner) ?? all.find(({ answer }) => !answer);
  if (!own) return void (await self.clients.openWindow(addressOf(data)));
  await own.page.focus().catch(() => {});
  tell(own.page, { type: "open", data });
}
