import type { Conversation } from "im-client";
import {
  createEffect,
  createMemo,
  createResource,
  createSignal,
  For,
  type JSX,
  Match,
  on,
  Show,
  Switch,
} from "solid-js";
import { Virtualizer, type VirtualizerHandle } from "virtua/solid";
import { t } from "../i18n/index.ts";
import { isUnread, listed } from "../store/listing.ts";
import { isUserId } from "../store/session.ts";
import { Avatar } from "./avatar.tsx";
import { usePage } from "./context.ts";
import { sentence } from "./dialog.tsx";
import { Entry } from "./entry.tsx";
import { Icon } from "./icon.tsx";

export const ENTRY_PX = 68;

export function Sidebar(props: {
  selected: Conversation | undefined;
  onNew: () => void;
  onSettings: () => void;
}): JSX.Element {
  const { chat, open } = usePage();
  const [search, setSearch] = createSignal("");
  /** The archived conversations are shown instead of the others. */
  const [archive, setArchive] = createSignal(false);
  let list!: HTMLDivElement;
  let handle: VirtualizerHandle | undefined;
  const matches = (conversation: Conversation, text: string): boolean =>
    (conversation.peer ?? conversation.id).toLocaleLowerCase().includes(text) ||
    chat.directory
      .knownName(conversation.kind, conversation.peer ?? conversation.id)
      .toLocaleLowerCase()
      .includes(text);
  const members = createMemo(() =>
    chat.list().filter((conversation) => conversation.member || conversation === props.selected),
  );
  const archived = createMemo(() => members().filter(({ settings }) => settings.archived));
  createEffect(() => {
    if (archived().length === 0) setArchive(false);
  });
  const found = createMemo(() => {
    const text = search().trim().toLocaleLowerCase();
    if (!text) return listed(members(), archive());
    return members().filter((conversation) => matches(conversation, text));
  });
  const status = createMemo(() => chat.connection().status);

  const keys = (event: KeyboardEvent): void => {
    const step = { ArrowDown: 1, ArrowUp: -1, Home: Number.NEGATIVE_INFINITY, End: Number.POSITIVE_INFINITY }[
      event.key
    ];
    if (step === undefined || event.altKey) return;
    const current = (document.activeElement as HTMLElement | null)?.dataset["index"];
    const at = Math.min(found().length - 1, Math.max(0, current === undefined ? 0 : Number(current) + step));
    handle?.scrollToIndex(at, { align: "nearest" });
    // The row may have to be made first.
    requestAnimationFrame(() => list.querySelector<HTMLElement>(`[data-index="${at}"]`)?.focus());
    event.preventDefault();
  };

  return (
    <nav class="side" aria-label={t().conversations}>
      <h1 class="hidden-text">{t().appName}</h1>
      <div class="side-head">
        <button type="button" class="side-me" onClick={() => props.onSettings()}>
          <Avatar id={chat.me} name={chat.directory.user(chat.me)} />
          <span class="ellipsis">
            <strong class="ellipsis">
              <bdi>{chat.directory.user(chat.me)}</bdi>
            </strong>
            <small>
              <i class="status-dot" classList={{ online: status() === "online", waiting: status() === "waiting" }} />
              {status() === "online" ? t().online : status() === "connecting" ? t().connecting : t().offlineState}
            </small>
          </span>
        </button>
        <button
          type="button"
          class="icon-button"
          aria-label={t().newConversation}
          title={t().newConversation}
          onClick={() => props.onNew()}
        >
          <Icon name="add" />
        </button>
        <button
          type="button"
          class="icon-button"
          aria-label={t().settings}
          title={t().settings}
          onClick={() => props.onSettings()}
        >
          <Icon name="settings" />
        </button>
      </div>
      <div class="search" onKeyDown={keys}>
        <Icon name="search" />
        <input
          id="search"
          type="search"
          aria-label={t().search}
          placeholder={t().search}
          value={search()}
          onInput={(event) => setSearch(event.currentTarget.value)}
          onKeyDown={(event) => {
            const first = found()[0];
            if (event.key === "Enter" && !event.isComposing && first && search()) open(first);
            if (event.key === "Escape" && search()) {
              setSearch("");
              event.preventDefault();
              event.stopPropagation();
            }
          }}
        />
      </div>
      <Invitations />
      <Show when={archived().length > 0 && !search().trim()}>
        <button type="button" class="archive-button" aria-pressed={archive()} onClick={() => setArchive(!archive())}>
          <Icon name={archive() ? "back" : "archive"} />
          <span class="ellipsis">{archive() ? t().allConversations : t().archived}</span>
          <Show when={!archive()}>
            <small>{t().conversationCount(archived().length)}</small>
            <Show when={archived().some(isUnread)}>
              <span class="badge dot-badge">
                <span class="hidden-text">{t().markedUnread}</span>
              </span>
            </Show>
          </Show>
        </button>
      </Show>
      <div class="list" ref={list} onKeyDown={keys}>
        <Show
          when={found().length > 0}
          fallback={
            <Show when={members().length === 0 || search().trim()}>
              <NoEntry search={search().trim()} onNew={props.onNew} />
            </Show>
          }
        >
          <Virtualizer ref={(made) => (handle = made)} data={found()} itemSize={ENTRY_PX} scrollRef={list}>
            {(conversation, index) => (
              <Entry conversation={conversation} index={index()} isSelected={conversation === props.selected} />
            )}
          </Virtualizer>
        </Show>
      </div>
    </nav>
  );
}

function NoEntry(props: { search: string; onNew: () => void }): JSX.Element {
  const { chat, open } = usePage();
  return (
    <Switch>
      <Match when={props.search}>
        <div class="side-note">
          <p class="dim">{t().noMatch(props.search)}</p>
          <Show when={isUserId(props.search)}>
            <button type="button" class="button" onClick={() => open(chat.client.direct(props.search))}>
              {t().startChatWith(props.search)}
            </button>
          </Show>
        </div>
      </Match>
      <Match when={chat.connection().synced}>
        <div class="side-note">
          <h2>{t().noConversations}</h2>
          <p class="dim">{t().noConversationsText}</p>
          <button type="button" class="button primary" onClick={() => props.onNew()}>
            {t().newConversation}
          </button>
        </div>
      </Match>
      <Match when={true}>
        <div class="side-note dim">{t().loading}</div>
      </Match>
    </Switch>
  );
}

function Invitations(): JSX.Element {
  const { chat, open } = usePage();
  const [problem, setProblem] = createSignal("");
  const [invitations, { refetch }] = createResource(
    () => (chat.connection().status === "online" ? chat.invited() : false),
    async () => {
      try {
        return (await chat.client.invitations.list()).invitations;
      } catch {
        return [];
      }
    },
    { initialValue: [] },
  );
  createEffect(on(chat.invited, () => setProblem("")));
  const answer = async (id: string, accept: boolean): Promise<void> => {
    try {
      await (accept ? chat.client.invitations.accept(id) : chat.client.invitations.decline(id));
      if (accept) open(chat.client.conversation(id));
    } catch (error) {
      setProblem(sentence(error));
    }
    void refetch();
  };
  return (
    <For each={invitations.latest}>
      {(one) => (
        <div class="invitation">
          <span>
            <b>
              <bdi>{one.name || one.conversation_id}</bdi>
            </b>
            <br />
            {t().invitedBy(chat.directory.user(one.invited_by))}
          </span>
          <Show when={problem()}>
            <span class="error-text">{problem()}</span>
          </Show>
          <div>
            <button type="button" class="button primary small" onClick={() => void answer(one.conversation_id, true)}>
              {t().accept}
            </button>
            <button type="button" class="button small" onClick={() => void answer(one.conversation_id, false)}>
              {t().decline}
            </button>
          </div>
        </div>
      )}
    </For>
  );
}
