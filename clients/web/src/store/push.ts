/**
 * Notifications of this browser: whose they are, the service worker that shows them, and the subscription that brings them
 * while no page is open. A browser has one subscription, and so one user with notifications.
 */

import { ImError, Push } from "im-client";
import { createSignal } from "solid-js";
import { language } from "../i18n/index.ts";
import { type Answer, bytesOf, hasKey, type ToPage, type ToWorker, wantedBy } from "../lib/notifications.ts";
import { persisted } from "../lib/storage.ts";
import type { Chat } from "./chat.ts";
import { session } from "./session.ts";

const WORKER = "/sw.js";
/** How long a sign-out waits for the server; what it does not hear, the push service tells it at the next push. */
const REMOVE_MS = 3_000;
/** How long a subscription waits for the server, whose calls wait for the next token if the present one has expired. */
const CALL_MS = 20_000;
/** How long the browser may take to start the service worker. */
const START_MS = 10_000;

/** Whose the notifications are. `id` names the subscription on the server. */
interface Owner {
  /** Absent: of whoever is signed in, as earlier versions of the page had it. */
  userId?: string;
  id?: string;
  /** The session outlives its tab. */
  stay?: boolean;
}

const [stored, store] = persisted<string>("im.notifications", "", () => true);

function owner(): Owner | undefined {
  if (stored() === "on") return {};
  try {
    const found = JSON.parse(stored() || "null") as Owner | null;
    return typeof found === "object" ? (found ?? undefined) : undefined;
  } catch {
    return undefined;
  }
}

const setOwner = (to: Owner | undefined): void => store(to ? JSON.stringify(to) : "");

/** Whether notifications are on for this user. */
export const isOn = (userId: string): boolean => {
  const found = owner();
  return found !== undefined && (found.userId ?? userId) === userId;
};

/**
 * What notifications reach: also a page that is `closed`; only an open one, since the `server` or the `browser` has no
 * push, or since the subscription `failed`.
 */
export type Reach = "unknown" | "closed" | "server" | "browser" | "failed";

const [reach, setReach] = createSignal<Reach>("unknown");
const [failure, setFailure] = createSignal("");

export { failure, reach };

let registration: ServiceWorkerRegistration | undefined;

/** Registers the service worker. Undefined where the browser has none, as some have in private windows. */
async function register(): Promise<ServiceWorkerRegistration | undefined> {
  if (!("serviceWorker" in navigator)) return undefined;
  try {
    await navigator.serviceWorker.register(WORKER, { updateViaCache: "none" });
    registration = await within(START_MS, navigator.serviceWorker.ready);
  } catch (error) {
    registration = undefined;
    console.warn("the service worker for notifications is missing:", error);
  }
  return registration;
}

/** Tells the service worker, also one that another tab has registered; false if there is none. */
export function tellWorker(told: ToWorker): boolean {
  const worker = navigator.serviceWorker?.controller ?? registration?.active;
  worker?.postMessage(told);
  return worker != null;
}

/** The notifications that are on the screen. */
export async function onScreen(): Promise<readonly Notification[]> {
  return (await registration?.getNotifications()) ?? [];
}

/** The server's key for Web Push; undefined if it does not offer it. */
async function keyOf(push: Push): Promise<Uint8Array<ArrayBuffer> | undefined> {
  try {
    const { enabled, services, vapid_public_key: key } = await push.config();
    return enabled && services.includes("webpush") && key ? bytesOf(key) : undefined;
  } catch (error) {
    if (error instanceof ImError && error.code === 404) return undefined;
    throw error;
  }
}

const hasPush = (): boolean => "serviceWorker" in navigator && "PushManager" in window;

/** Finds out what notifications would reach, before they are turned on. */
export async function lookAtOffer(chat: Chat): Promise<void> {
  if (isOn(chat.me)) return;
  if (!hasPush()) return void setReach("browser");
  const key = await keyOf(new Push(chat.client)).catch(() => "unknown");
  setReach(key ? "unknown" : "server");
}

/** Rejects if it takes longer. */
function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  const late = new Promise<never>((_, reject) => setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms));
  return Promise.race([promise, late]);
}

/** One after the other, also those of other tabs. */
const inTurn = <T>(run: () => Promise<T>): Promise<T> =>
  "locks" in navigator ? navigator.locks.request("im notifications", run) : run();

/** Turns notifications on for this user, instead of another one who had them in this browser. */
export function begin(chat: Chat): Promise<void> {
  if (!isOn(chat.me)) setOwner({ userId: chat.me });
  return renew(chat);
}

/**
 * Makes sure that the server has the subscription of this browser, and that it was made with the server's present key. Asks
 * for nothing: the permission is there.
 */
export function renew(chat: Chat): Promise<void> {
  return inTurn(async () => {
    if (!isOn(chat.me)) return;
    try {
      const worker = await register();
      tellWorker({ type: "language", language: language() });
      if (!worker || !hasPush()) return void setReach("browser");
      const push = new Push(chat.client);
      const key = await within(CALL_MS, keyOf(push));
      if (!key) return void setReach("server");
      const { id: known } = owner() ?? {};
      let subscription = await worker.pushManager.getSubscription();
      // One without an id is of another user, or was never told to the server.
      if (subscription && (known === undefined || !hasKey(subscription.options.applicationServerKey, key))) {
        await subscription.unsubscribe();
        subscription = null;
      }
      subscription ??= await worker.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
      const { id } = await within(CALL_MS, push.subscribe(subscription.toJSON()));
      // They were turned off meanwhile.
      if (!isOn(chat.me)) {
        await subscription.unsubscribe();
        return void push.unsubscribe(id).catch(() => {});
      }
      if (known !== undefined && known !== id) push.unsubscribe(known).catch(() => {});
      setOwner({ userId: chat.me, id, ...(session()?.stay && { stay: true }) });
      setReach("closed");
    } catch (error) {
      setFailure(error instanceof Error ? error.message : String(error));
      setReach("failed");
    }
  });
}

/** Ends notifications of this user in this browser, and on the server if it answers soon. */
export async function end(chat: Chat): Promise<void> {
  if (!isOn(chat.me)) return;
  const { id } = owner() ?? {};
  await drop();
  if (id === undefined) return;
  // Without a valid token the call would wait for the next one.
  await within(REMOVE_MS, new Push(chat.client).unsubscribe(id)).catch(() => {});
}

/** Another user has notifications here, and its session has ended with its tab: they end, too. */
export async function endForeign(userId: string): Promise<void> {
  const found = owner();
  if (found?.userId !== undefined && found.userId !== userId && !found.stay) await drop();
}

/** Ends them in this browser. At once, also while `renew` waits for the server. */
async function drop(): Promise<void> {
  setOwner(undefined);
  setReach("unknown");
  try {
    registration ??= await navigator.serviceWorker?.getRegistration(WORKER);
    tellWorker({ type: "end" });
    await (await registration?.pushManager?.getSubscription())?.unsubscribe();
  } catch (error) {
    console.warn("the subscription was not ended:", error);
  }
}

/** What the page shows while it is visible; the chat page says it. */
let shownConversation: () => string | undefined = () => undefined;
let renewal: () => void = () => {};

/** Connects the chat page with the service worker, until it goes. */
export function connectWorker(shown: () => string | undefined, onSubscription: () => void): () => void {
  shownConversation = shown;
  renewal = onSubscription;
  return () => {
    shownConversation = () => undefined;
    renewal = () => {};
  };
}

/** The conversation that a notification, or the address of the page, asks for. */
const [wanted, setWanted] = createSignal(wantedBy(location.hash));

export { setWanted, wanted };

if (wanted()) history.replaceState(history.state, "", location.pathname + location.search);

// From the start: a click on a notification may open this page.
if ("serviceWorker" in navigator) {
  navigator.serviceWorker.addEventListener("message", ({ data, ports }) => {
    const told = data as ToPage;
    const me = session()?.userId;
    const isOwner = me === undefined || isOn(me);
    if (told.type === "ask") {
      const isVisible = document.visibilityState === "visible";
      const isLookedAt = isOwner && isVisible && shownConversation() === told.conversation_id;
      ports[0]?.postMessage({ isOwner, isLookedAt } satisfies Answer);
    } else if (told.type === "open") {
      if (isOwner) setWanted({ id: told.data.conversation_id, from: told.data.sender_id });
    } else if (isOwner) renewal();
  });
}
