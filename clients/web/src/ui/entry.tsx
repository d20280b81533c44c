import type { Conversation } from "im-client";
import { createMemo, type JSX, Match, onCleanup, Show, Switch } from "solid-js";
import { t } from "../i18n/index.ts";
import { brief, full, isTime } from "../lib/time.ts";
import { isUnread } from "../store/listing.ts";
import { isMuted } from "../store/notify.ts";
import { preview, titleOf } from "../store/titles.ts";
import { Avatar } from "./avatar.tsx";
import { usePage } from "./context.ts";
import { useConversationItems } from "./conversation-menu.tsx";
import { Icon } from "./icon.tsx";
import { Menu } from "./popup.tsx";

/** A conversation in the list. */
export function Entry(props: { conversation: Conversation; index: number; isSelected: boolean }): JSX.Element {
  const { chat, open } = usePage();
  const { conversation } = props;
  const now = (): Conversation => chat.of(conversation);
  const title = createMemo(() => titleOf(chat, now()));
  const peer = conversation.kind === "private" ? conversation.peer : undefined;
  if (peer !== undefined && peer !== chat.me) onCleanup(chat.directory.watch(peer));
  const items = useConversationItems(conversation, () => props.isSelected);
  let showMenu = (): void => {};
  const isQuiet = (): boolean => isMuted(now());
  return (
    <div
      class="entry-box"
      classList={{ "is-selected": props.isSelected }}
      onContextMenu={(event) => {
        if (items().length === 0) return;
        event.preventDefault();
        showMenu();
      }}
    >
      <button
        type="button"
        class="entry"
        classList={{ "has-unread": isUnread(now()) }}
        data-index={props.index}
        data-conversation={conversation.id}
        aria-current={props.isSelected ? "true" : undefined}
        onClick={() => open(conversation)}
      >
        <Avatar
          id={peer ?? conversation.id}
          name={title()}
          kind={conversation.kind}
          online={peer !== undefined && chat.directory.online(peer)?.online === true}
        />
        <span class="ellipsis">
          <span class="entry-line">
            <bdi class="name ellipsis">{title()}</bdi>
            <Show when={isQuiet()}>
              <Mark icon="mute" text={t().muted} />
            </Show>
            <Show when={now().settings.pinned}>
              <Mark icon="pin" text={t().pinned} />
            </Show>
            <Time conversation={conversation} />
          </span>
          <span class="entry-line">
            <Preview conversation={conversation} isSelected={props.isSelected} />
            <Show when={now().mentions > 0}>
              <span class="badge mention-badge">
                <span aria-hidden="true">@{now().mentions > 1 ? now().mentions : ""}</span>
                <span class="hidden-text">{t().unreadMentions(now().mentions)}</span>
              </span>
            </Show>
            <Show when={now().unread > 0} fallback={<MarkedUnread is={now().settings.marked_unread === true} />}>
              <span class="badge" classList={{ muted: isQuiet() }}>
                <span aria-hidden="true">{now().unread > 999 ? "999+" : now().unread}</span>
                <span class="hidden-text">{t().unread(now().unread)}</span>
              </span>
            </Show>
          </span>
        </span>
      </button>
      <Show when={items().length > 0}>
        <Menu
          small
          class="entry-menu"
          label={t().conversationActions(title())}
          items={items()}
          control={(show) => {
            showMenu = show;
          }}
        />
      </Show>
    </div>
  );
}

function Mark(props: { icon: "mute" | "pin"; text: string }): JSX.Element {
  return (
    <span role="img" aria-label={props.text} title={props.text} class="entry-mark">
      <Icon name={props.icon} />
    </span>
  );
}

function MarkedUnread(props: { is: boolean }): JSX.Element {
  return (
    <Show when={props.is}>
      <span class="badge dot-badge">
        <span class="hidden-text">{t().markedUnread}</span>
      </span>
    </Show>
  );
}

function Time(props: { conversation: Conversation }): JSX.Element {
  const { chat } = usePage();
  const last = createMemo(() => chat.of(props.conversation).lastMessage);
  return (
    <Show when={last()}>
      {(message) => (
        <Show when={isTime(message().sendTime)}>
          <time dateTime={new Date(message().sendTime).toISOString()} title={full(message().sendTime)}>
            {brief(message().sendTime, t())}
          </time>
        </Show>
      )}
    </Show>
  );
}

function Preview(props: { conversation: Conversation; isSelected: boolean }): JSX.Element {
  const { chat } = usePage();
  const { conversation } = props;
  const typing = (): string | undefined => {
    const [first] = chat.typing(conversation.id);
    if (first === undefined) return undefined;
    return conversation.kind === "group" ? t().typing1(chat.directory.user(first)) : t().isTyping;
  };
  const draft = (): string => (props.isSelected ? "" : chat.drafts.get(conversation.id));
  const text = createMemo((): string => {
    const now = chat.of(conversation);
    const message = now.lastMessage;
    if (!now.member) return t().notMember;
    if (!message) return "";
    const line = preview(chat, message);
    if (message.msgType === 8) return line;
    if (message.mine) return `${t().you}: ${line}`;
    return conversation.kind === "group" ? `${chat.directory.user(message.senderId)}: ${line}` : line;
  });
  return (
    <Switch
      fallback={
        <span class="preview ellipsis">
          <bdi>{text()}</bdi>
        </span>
      }
    >
      <Match when={typing()}>{(line) => <span class="preview ellipsis typing-text">{line()}</span>}</Match>
      <Match when={draft()}>
        {(line) => (
          <span class="preview ellipsis">
            <span class="draft-text">{t().draft}</span> <bdi>{line()}</bdi>
          </span>
        )}
      </Match>
    </Switch>
  );
}
