import type { Conversation } from "im-client";
import { createResource, For, type JSX, Show } from "solid-js";
import { t } from "../i18n/index.ts";
import { Avatar } from "./avatar.tsx";
import { usePage } from "./context.ts";
import { Dialog, Problem, sentence } from "./dialog.tsx";

/** Pages of members that are asked for. */
const PAGES_MAX = 4;

/** Who has read a message of a group. */
export function SeenBy(props: { conversation: Conversation; seq: number; onClose: () => void }): JSX.Element {
  const { chat } = usePage();
  const [readers] = createResource(async () => {
    const found: string[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < PAGES_MAX; page++) {
      const { positions, next_cursor } = await props.conversation.positions(cursor, 500);
      for (const { user_id, seq } of positions) if (seq >= props.seq && user_id !== chat.me) found.push(user_id);
      cursor = next_cursor;
      if (cursor === undefined) break;
    }
    return found;
  });
  return (
    <Dialog title={t().seenBy} onClose={props.onClose}>
      <Show when={!readers.error} fallback={<Problem text={sentence(readers.error)} />}>
        <Show when={!readers.loading} fallback={<p>{t().loading}</p>}>
          <For each={readers()} fallback={<p class="dim">{t().seenByNobody}</p>}>
            {(id) => (
              <div class="person">
                <Avatar id={id} name={chat.directory.user(id)} size="small" />
                <bdi class="who ellipsis">{chat.directory.user(id)}</bdi>
              </div>
            )}
          </For>
        </Show>
      </Show>
    </Dialog>
  );
}
