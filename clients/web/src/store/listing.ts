/** Which conversations the list shows, and in which order. Pure. */

import type { Conversation } from "im-client";

/** Those that are archived, or the others: pinned ones first, otherwise the newest first. */
export function listed(all: readonly Conversation[], archived: boolean): readonly Conversation[] {
  const shown = all.filter(({ settings }) => (settings.archived === true) === archived);
  const isPinned = ({ settings }: Conversation): boolean => settings.pinned === true;
  return shown.some(isPinned) ? [...shown.filter(isPinned), ...shown.filter((one) => !isPinned(one))] : shown;
}

/** Unread messages, or marked as unread. */
export const isUnread = ({ unread, settings }: Conversation): boolean => unread > 0 || settings.marked_unread === true;
