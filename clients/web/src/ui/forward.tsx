/** Sends a message to another conversation. Its files are copied there, so that a recall here does not take them away. */

import type { Conversation, Message } from "im-client";
import { createMemo, createSignal, For, type JSX } from "solid-js";
import { t } from "../i18n/index.ts";
import { titleOf } from "../store/titles.ts";
import { Avatar } from "./avatar.tsx";
import { usePage } from "./context.ts";
import { Dialog, Problem, sentence } from "./dialog.tsx";

/** Conversations that are listed; others are found by the search. */
const LISTED_MAX = 50;

export function Forward(props: { message: Message; onClose: () => void }): JSX.Element {
  const { chat, tell } = usePage();
  const [search, setSearch] = createSignal("");
  const [problem, setProblem] = createSignal("");
  const [busy, setBusy] = createSignal(false);
  const found = createMemo(() => {
    const text = search().trim().toLocaleLowerCase();
    const isFound = (one: Conversation): boolean =>
      text === "" || `${titleOf(chat, one)} ${one.peer ?? one.id}`.toLocaleLowerCase().includes(text);
    return chat
      .list()
      .filter((one) => one.member && isFound(one))
      .slice(0, LISTED_MAX);
  });
  const send = async (to: Conversation): Promise<void> => {
    setBusy(true);
    setProblem("");
    const { content, msgType, attachments = [] } = props.message;
    try {
      const copies = await Promise.all(attachments.map(({ file_id }) => chat.files.files.copy(file_id, to.id)));
      const sent = to.send({
        ...(content !== "" && { content }),
        ...(copies.length > 0 && { msgType, attachments: copies }),
      });
      // The message itself shows what becomes of it.
      sent.accepted().catch(() => {});
      tell(t().forwardedTo(titleOf(chat, to)));
      props.onClose();
    } catch (error) {
      setProblem(sentence(error));
    }
    setBusy(false);
  };
  return (
    <Dialog title={t().forwardTo} onClose={props.onClose}>
      <input
        class="input"
        type="search"
        aria-label={t().search}
        placeholder={t().search}
        value={search()}
        onInput={(event) => setSearch(event.currentTarget.value)}
      />
      <Problem text={problem()} />
      <div class="forward-list">
        <For each={found()} fallback={<p class="dim">{t().noMatch(search().trim())}</p>}>
          {(one) => (
            <button type="button" class="person" disabled={busy()} onClick={() => void send(one)}>
              <Avatar id={one.peer ?? one.id} name={titleOf(chat, one)} kind={one.kind} size="small" />
              <bdi class="who ellipsis">{titleOf(chat, one)}</bdi>
            </button>
          )}
        </For>
      </div>
    </Dialog>
  );
}
