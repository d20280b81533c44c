/** What can be done with a message. */

import type { Conversation, Message } from "im-client";
import { type JSX, Show } from "solid-js";
import { t } from "../i18n/index.ts";
import { copyText } from "../lib/copy.ts";
import { usePage, useTalk } from "./context.ts";
import { sentence } from "./dialog.tsx";
import { Icon, type IconName } from "./icon.tsx";
import { Menu, type MenuItem } from "./popup.tsx";
import { ReactButton } from "./reactions.tsx";

/** How long an own message can be recalled; owners and admins can always. */
const RECALL_MS = 120_000;

export function Actions(props: {
  message: Message;
  conversation: Conversation;
  onSeenBy: () => void;
  onWho: () => void;
  onForward: () => void;
}): JSX.Element {
  const { chat, ask, tell } = usePage();
  const talk = useTalk();
  const mayRecall = (): boolean => {
    const { message, conversation } = props;
    if (message.seq === 0 || message.recalled || message.state === "failed" || !conversation.member) return false;
    if (conversation.kind === "group" && talk.isAdmin) return true;
    return message.mine && Date.now() + chat.clockOffset() - message.sendTime < RECALL_MS;
  };
  const recall = (): void =>
    ask({
      title: t().recallConfirm,
      text: t().recallText,
      action: t().recall,
      danger: true,
      run: () => props.conversation.recall(props.message.seq),
    });
  const pin = (remove: boolean): void => {
    props.conversation.pin(props.message.seq, remove).catch((error: unknown) => tell(sentence(error)));
  };
  const items = (): MenuItem[] => {
    const { message, conversation } = props;
    const found: MenuItem[] = [];
    const add = (is: boolean, item: MenuItem): void => void (is && found.push(item));
    add(message.content !== "", { icon: "copy", text: t().copy, run: () => void copyText(message.content) });
    const isFile = (message.attachments?.length ?? 0) > 0;
    add((isFile ? talk.has("files") : message.msgType === 1) && message.state === "stored", {
      icon: "forward",
      text: t().forward,
      run: props.onForward,
    });
    const isPinned = talk.isPinned(message);
    add(talk.mayPin(message), {
      icon: "pin",
      text: isPinned ? t().unpinMessage : t().pinMessage,
      run: () => pin(isPinned),
    });
    add((message.reactions?.length ?? 0) > 0, { icon: "smile", text: t().whoReacted, run: props.onWho });
    add(conversation.kind === "group" && message.mine && message.state === "stored", {
      icon: "eye",
      text: t().seenBy,
      run: props.onSeenBy,
    });
    add(mayRecall(), { icon: "recall", text: t().recall, danger: true, run: recall });
    return found;
  };
  return (
    <Show when={!props.message.recalled && props.message.state !== "failed"}>
      <div class="actions" role="group" aria-label={t().messageActions}>
        <Show when={talk.has("reactions") && talk.isThere(props.message)}>
          <ReactButton message={props.message} />
        </Show>
        <Show when={talk.has("reply") && talk.isThere(props.message)}>
          <Action icon="reply" text={t().reply} run={() => talk.setTarget({ kind: "reply", message: props.message })} />
        </Show>
        <Show when={talk.mayEdit(props.message)}>
          <Action icon="edit" text={t().edit} run={() => talk.setTarget({ kind: "edit", message: props.message })} />
        </Show>
        <Show when={items().length > 0}>
          <Menu small label={t().moreActions} items={items()} />
        </Show>
      </div>
    </Show>
  );
}

function Action(props: { icon: IconName; text: string; run: () => void }): JSX.Element {
  return (
    <button
      type="button"
      class="icon-button small"
      aria-label={props.text}
      title={props.text}
      onClick={() => props.run()}
    >
      <Icon name={props.icon} />
    </button>
  );
}
