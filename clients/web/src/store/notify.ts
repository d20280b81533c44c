/** Notifications while the page is hidden: a counter in the title, and the browser's own notifications. */

import type { Conversation } from "im-client";
import { createEffect, createSignal, onCleanup } from "solid-js";
import { t } from "../i18n/index.ts";
import { persisted } from "../lib/storage.ts";
import { oneLine } from "../lib/text.ts";
import type { Chat } from "./chat.ts";
import { preview, titleOf } from "./titles.ts";

const COUNT_MS = 250;

const [wanted, setWanted] = persisted<"" | "on" | "off">(
  "im.notifications",
  "",
  (text) => text === "on" || text === "off",
);

export type NotificationState = "on" | "off" | "blocked" | "missing";

const [permission, setPermission] = createSignal(
  typeof Notification === "undefined" ? "missing" : Notification.permission,
);

/** Whether the browser shows notifications of this page. */
export function notificationState(): NotificationState {
  const granted = permission();
  if (granted === "missing") return "missing";
  if (granted === "denied") return "blocked";
  return granted === "granted" && wanted() === "on" ? "on" : "off";
}

/** Asks for the permission; only after a click. */
export async function turnNotifications(on: boolean): Promise<void> {
  if (on && typeof Notification !== "undefined" && Notification.permission === "default") {
    setPermission(await Notification.requestPermission());
  }
  setWanted(on ? "on" : "off");
}

/** Whether the user has muted a conversation's notifications. */
export function isMuted(conversation: Conversation): boolean {
  const until = conversation.settings.muted_until ?? 0;
  return until === -1 || until > Date.now();
}

/** Counts in the title, and notifies. `open` shows a conversation. */
export function notifyOf(chat: Chat, open: (conversation: Conversation) => void): void {
  const [unread, setUnread] = createSignal(0);
  createEffect(() => {
    const count = unread();
    document.title = count > 0 ? `(${count > 999 ? "999+" : count}) ${t().appName}` : t().appName;
  });
  onCleanup(() => {
    document.title = t().appName;
  });

  const shown = new Map<string, Notification>();
  const close = (id: string): void => {
    shown.get(id)?.close();
    shown.delete(id);
  };
  const off = chat.client.on("messages", ({ conversation, messages }) => {
    const last = messages.findLast((message) => !message.mine && (message.msgType <= 2 || message.msgType === 7));
    if (!last || document.visibilityState === "visible" || notificationState() !== "on" || isMuted(conversation))
      return;
    if (last.seq <= conversation.readSeq) return;
    const title = titleOf(chat, conversation);
    const author = conversation.kind === "group" ? `${chat.directory.user(last.senderId)}: ` : "";
    // All tabs use the same tag: there is one notification for a conversation.
    const options = {
      body: author + oneLine(preview(chat, last)),
      tag: `im ${chat.me} ${conversation.id}`,
      icon: "/web/icon.svg",
    };
    try {
      const notification = new Notification(title, options);
      notification.onclick = () => {
        window.focus();
        open(conversation);
        notification.close();
      };
      close(conversation.id);
      shown.set(conversation.id, notification);
    } catch {
      // Some browsers have notifications for service workers only.
    }
  });
  // Counted a few times a second, however many messages arrive. What was read, here or on another device, needs no
  // notification any more.
  const count = (): void => {
    timer = undefined;
    let sum = 0;
    for (const conversation of chat.client.conversations) {
      if (conversation.member && !isMuted(conversation)) sum += conversation.unread;
      if (conversation.unread === 0) close(conversation.id);
    }
    setUnread(sum);
  };
  let timer: ReturnType<typeof setTimeout> | undefined;
  createEffect(() => {
    chat.changes();
    chat.list();
    timer ??= setTimeout(count, COUNT_MS);
  });
  const visible = (): void => {
    if (document.visibilityState === "visible") for (const id of [...shown.keys()]) close(id);
  };
  document.addEventListener("visibilitychange", visible);
  onCleanup(() => {
    off();
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", visible);
  });
}
