/** What conversations and messages are called in lists. */

import type { Conversation, Message } from "im-client";
import { t } from "../i18n/index.ts";
import { ALL, EVERYONE, pieces } from "../lib/mentions.ts";
import { oneLine } from "../lib/text.ts";
import type { Chat } from "./chat.ts";

/** The name of a conversation. */
export function titleOf(chat: Chat, conversation: Conversation): string {
  if (conversation.kind === "group") return chat.directory.groupName(conversation.id);
  const peer = conversation.peer ?? conversation.id.replace(/^private_/, "");
  return peer === chat.me ? t().notes : chat.directory.user(peer);
}

/** The text of a message with the names of the users that it mentions. */
function named(chat: Chat, { content, mentions = [] }: Message): string {
  const name = (id: string): string => (id === EVERYONE ? `@${ALL}` : `@${chat.directory.user(id)}`);
  return pieces(content, mentions)
    .map(({ text, id }) => (id === undefined ? text : name(id)))
    .join("");
}

/** A message in one line. */
export function preview(chat: Chat, message: Message): string {
  if (message.recalled || message.msgType === 3) return t().recalledShort;
  if (message.msgType === 8) return systemText(chat, message);
  if (message.content) return oneLine(named(chat, message));
  const { attachments: files = [] } = message;
  if (message.msgType === 2) return files.length > 1 ? t().pictures(files.length) : t().picture;
  return files.length > 1 ? t().fileCount(files.length) : (files[0]?.name ?? t().file);
}

interface SystemMeta {
  type?: string;
  by?: string;
  user_ids?: string[];
  more?: number;
  name?: string;
  role?: string;
}

/** The sentence of a system message: who did what to a group. */
export function systemText(chat: Chat, message: Message): string {
  const meta = (typeof message.meta === "object" && message.meta ? message.meta : {}) as SystemMeta;
  const name = (id: string): string => (id === chat.me ? t().you : chat.directory.user(id));
  const by = name(meta.by ?? message.senderId);
  const ids = (meta.user_ids ?? []).slice(0, 5);
  const others = (meta.user_ids?.length ?? 0) - ids.length + (meta.more ?? 0);
  const whom = ids.map(name).join(", ") + (others > 0 ? t().andMore(others) : "");
  switch (meta.type) {
    case "created":
      return t().systemCreated(by);
    case "joined":
      return ids.length === 1 && ids[0] === meta.by ? t().systemCame(by) : t().systemJoined(by, whom);
    case "left":
      return t().systemLeft(whom || by);
    case "removed":
      return t().systemRemoved(by, whom);
    case "renamed":
      return t().systemRenamed(by, meta.name ?? "");
    case "role":
      return t().systemRole(whom, meta.role === "owner" ? t().owner : meta.role === "admin" ? t().admin : t().member);
    default:
      return message.content || t().unknownType(message.msgType);
  }
}
