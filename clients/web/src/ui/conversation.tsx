import type { Conversation } from "im-client";
import { createMemo, type JSX, Match, onCleanup, onMount, Show, Switch } from "solid-js";
import { t } from "../i18n/index.ts";
import { brief } from "../lib/time.ts";
import { Talk } from "../store/talk.ts";
import { titleOf } from "../store/titles.ts";
import { FILES_MAX } from "../store/tray.ts";
import { Avatar } from "./avatar.tsx";
import { Composer } from "./composer.tsx";
import { TalkContext, usePage } from "./context.ts";
import { DropArea } from "./drop-area.tsx";
import { Gallery } from "./gallery.tsx";
import { Icon } from "./icon.tsx";
import { PinBar } from "./pins.tsx";
import { TimelineView } from "./timeline-view.tsx";

export function ConversationView(props: {
  conversation: Conversation;
  hasDetails: boolean;
  onDetails: () => void;
  onBack: () => void;
}): JSX.Element {
  const { chat, tell } = usePage();
  const { conversation } = props;
  const title = createMemo(() => titleOf(chat, chat.of(conversation)));
  const peer = conversation.kind === "private" ? conversation.peer : undefined;
  if (peer !== undefined && peer !== chat.me) onCleanup(chat.directory.watch(peer));
  const talk = new Talk(chat, conversation);
  let toBottom = (): void => {};
  const mayWrite = (): boolean => {
    const group = peer === undefined ? chat.directory.group(conversation.id) : undefined;
    return chat.of(conversation).member && !(group?.muted && group.role === "member");
  };
  const attach = (files: readonly File[]): void => {
    if (!chat.trays.of(conversation).add(files)) tell(t().filesMax(FILES_MAX));
  };
  onMount(() => {
    if (conversation.kind === "group") void chat.directory.loadGroup(conversation.id).catch(() => {});
  });

  const typing = (): string => {
    const [first, second, third] = chat.typing(conversation.id).map((id) => chat.directory.user(id));
    if (first === undefined) return "";
    if (peer !== undefined) return t().isTyping;
    if (second === undefined) return t().typing1(first);
    return third === undefined ? t().typing2(first, second) : t().typingMany;
  };
  const state = (): string => {
    if (peer === undefined) {
      const group = chat.directory.group(conversation.id);
      return group ? t().members(group.members) : "";
    }
    const presence = peer === chat.me ? undefined : chat.directory.online(peer);
    if (!presence) return "";
    if (presence.online) return t().online;
    return presence.lastSeen === undefined ? t().offlineState : t().lastSeen(brief(presence.lastSeen, t()));
  };

  return (
    <TalkContext.Provider value={talk}>
      <header class="main-head">
        <button type="button" class="icon-button back" aria-label={t().back} onClick={() => props.onBack()}>
          <Icon name="back" />
        </button>
        <button type="button" class="main-title" aria-expanded={props.hasDetails} onClick={() => props.onDetails()}>
          <Avatar
            id={peer ?? conversation.id}
            name={title()}
            kind={conversation.kind}
            online={peer !== undefined && chat.directory.online(peer)?.online === true}
          />
          <span>
            <h2 class="ellipsis">
              <bdi>{title()}</bdi>
            </h2>
            <small class="ellipsis" classList={{ "is-typing": typing() !== "" }}>
              {typing() || state()}
            </small>
          </span>
        </button>
        <button
          type="button"
          class="icon-button"
          aria-label={t().showDetails}
          title={t().details}
          aria-expanded={props.hasDetails}
          onClick={() => props.onDetails()}
        >
          <Icon name="info" />
        </button>
      </header>
      <PinBar />
      <TimelineView conversation={conversation} ref={(handle) => (toBottom = handle)} />
      <Switch fallback={<Composer conversation={conversation} onSent={() => toBottom()} onFiles={attach} />}>
        <Match when={!chat.of(conversation).member}>
          <p class="composer composer-off">{t().notMember}</p>
        </Match>
        <Match when={!mayWrite()}>
          <p class="composer composer-off">{t().mutedGroup}</p>
        </Match>
      </Switch>
      <Show when={talk.has("files") && mayWrite()}>
        <DropArea onFiles={attach} />
      </Show>
      <Show when={talk.picture()}>{(fileId) => <Gallery fileId={fileId()} />}</Show>
      <Show when={typing()}>
        <span class="hidden-text" role="status">
          {typing()}
        </span>
      </Show>
    </TalkContext.Provider>
  );
}
