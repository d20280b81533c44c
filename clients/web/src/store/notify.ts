/** Notifications: the setting, what a page in the background shows itself, and the counters in title and icon. */

import type { Conversation, Message } from "im-client";
import { createEffect, createSignal, on, onCleanup } from "solid-js";
import { language, t } from "../i18n/index.ts";
import { isOurs } from "../lib/notifications.ts";
import { oneLine } from "../lib/text.ts";
import type { Chat } from "./chat.ts";
import { begin, connectWorker, end, endForeign, isOn, onScreen, reach, renew, tellWorker } from "./push.ts";
import { session } from "./session.ts";
import { preview, titleOf } from "./titles.ts";

const COUNT_MS = 250;
/** The shortest time between two looks whether the server has the subscription, unless the last one failed. */
const RENEW_EVERY_MS = 600_000;

export type NotificationState = "on" | "off" | "blocked" | "missing";

const permissionNow = (): NotificationPermission | "missing" =>
  typeof Notification === "undefined" ? "missing" : Notification.permission;
const [permission, setPermission] = createSignal(permissionNow());
// A change in the browser's settings is shown at once.
navigator.permissions
  ?.query({ name: "notifications" })
  .then((status) => status.addEventListener("change", () => setPermission(permissionNow())))
  .catch(() => {});

/** Whether this browser shows notifications to the user. */
export function notificationState(chat: Chat): NotificationState {
  const granted = permission();
  if (granted === "missing") return "missing";
  if (granted === "denied") return "blocked";
  return granted === "granted" && isOn(chat.me) ? "on" : "off";
}

/** Asks for the permission; only after a click. */
export async function turnNotifications(chat: Chat, to: boolean): Promise<void> {
  if (!to) return end(chat);
  if (permissionNow() === "default") setPermission(await Notification.requestPermission());
  if (permission() === "granted") await begin(chat);
}

/** Whether the user has muted a conversation's notifications. */
export function isMuted(conversation: Conversation): boolean {
  const until = conversation.settings.muted_until ?? 0;
  return until === -1 || until > Date.now();
}

/** Counts in the title and on the icon, and notifies. `open` shows a conversation, `shown` names the one that is shown. */
export function notifyOf(
  chat: Chat,
  open: (conversation: Conversation) => void,
  shown: () => string | undefined,
): void {
  const [unread, setUnread] = createSignal(0);
  createEffect(() => {
    const count = unread();
    document.title = count > 0 ? `(${count > 999 ? "999+" : count}) ${t().appName}` : t().appName;
    if (notificationState(chat) === "on") setBadge(count);
  });
  onCleanup(() => {
    document.title = t().appName;
  });
  followSubscription(chat, shown);

  const here = new OwnNotifications(open);
  const off = chat.client.on("messages", ({ conversation, messages }) => {
    const last = messages.findLast((message) => !message.mine && (message.msgType <= 2 || message.msgType === 7));
    if (!last || document.visibilityState === "visible" || notificationState(chat) !== "on" || isMuted(conversation))
      return;
    if (last.seq <= conversation.readSeq) return;
    const { title, body } = describe(chat, conversation, last);
    const isTold = tellWorker({
      type: "message",
      conversation_id: conversation.id,
      seq: last.seq,
      sender_id: last.senderId,
      title,
      body,
      count: Math.max(1, conversation.unread),
      mention: last.mentions?.some((id) => id === chat.me || id === "*") === true,
    });
    if (!isTold) here.show(chat, conversation, title, body);
  });
  // Counted a few times a second, however many messages arrive. What was read, here or on another device, needs no
  // notification any more.
  const read = new Map<string, number>();
  const count = (): void => {
    timer = undefined;
    let sum = 0;
    for (const conversation of chat.client.conversations) {
      const { id, readSeq: seq } = conversation;
      if (conversation.member && !isMuted(conversation)) sum += conversation.unread;
      if (conversation.unread === 0) here.close(id);
      if (isOn(chat.me) && seq > (read.get(id) ?? seq)) tellWorker({ type: "read", conversation_id: id, seq });
      read.set(id, seq);
    }
    setUnread(sum);
  };
  let timer: ReturnType<typeof setTimeout> | undefined;
  createEffect(() => {
    chat.changes();
    chat.list();
    timer ??= setTimeout(count, COUNT_MS);
  });
  // What was read elsewhere while no page was open.
  createEffect(() => {
    if (chat.connection().synced) void closeRead(chat);
  });
  const visible = (): void => {
    if (document.visibilityState === "visible") here.closeAll();
  };
  document.addEventListener("visibilitychange", visible);
  onCleanup(() => {
    off();
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", visible);
  });
}

/** Title and text for a message. */
function describe(chat: Chat, conversation: Conversation, last: Message): { title: string; body: string } {
  const author = conversation.kind === "group" ? `${chat.directory.user(last.senderId)}: ` : "";
  return { title: titleOf(chat, conversation), body: author + oneLine(preview(chat, last)) };
}

/** Keeps the subscription and the worker's language as they should be. */
function followSubscription(chat: Chat, shown: () => string | undefined): void {
  let renewedAt = Number.NEGATIVE_INFINITY;
  const look = (): void => {
    renewedAt = performance.now();
    if (notificationState(chat) === "on") void renew(chat).then(() => closeRead(chat));
  };
  void endForeign(chat.me);
  createEffect(
    on(chat.connection, ({ status }) => {
      const isDue = reach() === "failed" || performance.now() - renewedAt > RENEW_EVERY_MS;
      if (status === "online" && isDue) look();
    }),
  );
  // A revocation of the tokens before this one has ended the subscription.
  createEffect(
    on(
      () => session()?.token,
      (token) => token !== undefined && look(),
      { defer: true },
    ),
  );
  createEffect(on(language, (to) => void tellWorker({ type: "language", language: to }), { defer: true }));
  onCleanup(connectWorker(shown, look));
}

/** Closes notifications of what was read. Those of another user are not of this page. */
async function closeRead(chat: Chat): Promise<void> {
  if (!isOn(chat.me)) return;
  for (const { data } of await onScreen()) {
    const found = isOurs(data) && chat.client.conversations.find(({ id }) => id === data.conversation_id);
    if (found && found.readSeq >= data.seq) tellWorker({ type: "read", conversation_id: found.id, seq: found.readSeq });
  }
}

function setBadge(count: number): void {
  if (!("setAppBadge" in navigator)) return;
  // Refused where the page is not installed.
  (count > 0 ? navigator.setAppBadge(count) : navigator.clearAppBadge()).catch(() => {});
}

/** Notifications of the page itself, in browsers without service workers. */
class OwnNotifications {
  private readonly shown = new Map<string, Notification>();

  constructor(private readonly open: (conversation: Conversation) => void) {}

  show(chat: Chat, conversation: Conversation, title: string, body: string): void {
    try {
      // All tabs use the same tag: there is one notification for a conversation.
      const options = { body, tag: `im ${chat.me} ${conversation.id}`, icon: "/web/icon-192.png" };
      const notification = new Notification(title, options);
      notification.onclick = () => {
        window.focus();
        this.open(conversation);
        notification.close();
      };
      this.close(conversation.id);
      this.shown.set(conversation.id, notification);
    } catch {
      // Some browsers have notifications for service workers only.
    }
  }

  close(id: string): void {
    this.shown.get(id)?.close();
    this.shown.delete(id);
  }

  closeAll(): void {
    for (const id of [...this.shown.keys()]) this.close(id);
  }
}
