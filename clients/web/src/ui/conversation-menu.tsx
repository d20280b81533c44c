/** The user's own view of a conversation: pinned, muted, archived, unread, cleared. */

import type { Conversation, ConversationChanges } from "im-client";
import { t } from "../i18n/index.ts";
import { isUnread } from "../store/listing.ts";
import { isMuted } from "../store/notify.ts";
import { usePage } from "./context.ts";
import { sentence } from "./dialog.tsx";
import type { MenuItem } from "./popup.tsx";

/** What can be done; empty on servers without settings. */
export function useConversationItems(conversation: Conversation, isOpen: () => boolean): () => MenuItem[] {
  const { chat, ask, open, tell } = usePage();
  const set = (change: ConversationChanges): void => {
    conversation.configure(change).catch((error: unknown) => tell(sentence(error)));
  };
  const read = (): void => conversation.markRead();
  return () => {
    if (!chat.features().has("settings")) return [];
    const now = chat.of(conversation);
    const { pinned = false, archived = false } = now.settings;
    const muted = isMuted(now);
    return [
      { icon: "pin", text: pinned ? t().unpin : t().pin, run: () => set({ pinned: !pinned }) },
      {
        icon: muted ? "bell" : "mute",
        text: muted ? t().unmute : t().mute,
        run: () => set({ muted_until: muted ? 0 : -1 }),
      },
      isUnread(now)
        ? { icon: "check", text: t().markRead, run: read }
        : {
            icon: "unread",
            text: t().markUnread,
            run: () => {
              // An open conversation is read.
              if (isOpen()) open(undefined);
              set({ marked_unread: true });
            },
          },
      { icon: "archive", text: archived ? t().unarchive : t().archive, run: () => set({ archived: !archived }) },
      {
        icon: "clear",
        text: t().clearChat,
        danger: true,
        run: () =>
          ask({
            title: t().clearConfirm,
            text: t().clearText,
            action: t().clearChat,
            danger: true,
            run: async () => {
              await conversation.clear();
              if (isOpen()) open(undefined);
            },
          }),
      },
    ];
  };
}
