/** The page of a user: the list, the conversation that is open, and dialogs. */

import type { Conversation } from "im-client";
import { createEffect, createMemo, createSignal, type JSX, Match, onCleanup, Show, Switch, untrack } from "solid-js";
import { t } from "../i18n/index.ts";
import { type Chat, openChat } from "../store/chat.ts";
import { listed } from "../store/listing.ts";
import { notifyOf } from "../store/notify.ts";
import { setWanted, wanted } from "../store/push.ts";
import { session } from "../store/session.ts";
import { Banner } from "./banner.tsx";
import { type Page, PageContext } from "./context.ts";
import { ConversationView } from "./conversation.tsx";
import { Details } from "./details.tsx";
import { Confirm, type Question } from "./dialog.tsx";
import { Icon } from "./icon.tsx";
import { NewConversation } from "./new-conversation.tsx";
import { Settings, Shortcuts } from "./settings.tsx";
import { Sidebar } from "./sidebar.tsx";

/** How long a notice is shown. */
const NOTICE_MS = 7_000;

type DialogName = "new" | "settings" | "shortcuts";

export function ChatPage(): JSX.Element {
  const own = untrack(session);
  if (!own) return null;
  const chat = openChat(own);
  const [selected, setSelected] = createSignal<Conversation | undefined>(undefined);
  const [dialog, setDialog] = createSignal<DialogName | undefined>(undefined);
  const [question, setQuestion] = createSignal<Question | undefined>(undefined);
  const [notice, setNotice] = createSignal("");
  const [details, setDetails] = createSignal(false);
  const hasDetails = createMemo(() => details() && selected() !== undefined);

  const open = (conversation: Conversation | undefined): void => {
    // Back leaves the conversation, as readers on a phone expect it.
    if (conversation && !selected()) history.pushState({ im: "conversation" }, "");
    setSelected(conversation);
    if (!conversation) setDetails(false);
  };
  const leave = (): void => {
    if (selected()) history.back();
  };
  const back = (): void => open(undefined);
  window.addEventListener("popstate", back);
  let noticed: ReturnType<typeof setTimeout> | undefined;
  const tell = (text: string): void => {
    clearTimeout(noticed);
    setNotice(text);
    noticed = setTimeout(() => setNotice(""), NOTICE_MS);
  };
  const page: Page = { chat, open, ask: setQuestion, tell };
  notifyOf(chat, open, () => untrack(selected)?.id);
  createEffect(() => {
    const asked = wanted();
    if (!asked) return;
    const known = chat.list().find(({ id }) => id === asked.id);
    // A group is opened only if the user is in it: to look into an open one is to join it.
    const found = known ?? (chat.connection().synced ? privateChat(chat, asked) : undefined);
    if (found) untrack(() => open(found));
    if (found || chat.connection().synced) setWanted(undefined);
  });

  /** The conversation before or after the open one. */
  const step = (by: number): void => {
    const list = listed(chat.list(), false);
    const at = list.indexOf(selected() as Conversation);
    const next = list[at < 0 ? 0 : Math.min(list.length - 1, Math.max(0, at + by))];
    if (next) open(next);
  };
  const keys = (event: KeyboardEvent): void => {
    if (event.isComposing || document.querySelector("dialog[open], :popover-open")) return;
    const inField = event.target instanceof HTMLElement && event.target.matches("input, textarea");
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      document.querySelector<HTMLInputElement>("#search")?.focus();
    } else if (event.altKey && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      step(event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Escape" && !event.defaultPrevented) {
      if (details()) setDetails(false);
      else leave();
    } else if (event.key === "?" && !inField) {
      setDialog("shortcuts");
    } else return;
    event.preventDefault();
  };
  document.addEventListener("keydown", keys);
  onCleanup(() => {
    clearTimeout(noticed);
    document.removeEventListener("keydown", keys);
    window.removeEventListener("popstate", back);
  });

  return (
    <PageContext.Provider value={page}>
      <div class="chat" classList={{ "has-selection": selected() !== undefined, "with-details": hasDetails() }}>
        <Sidebar selected={selected()} onNew={() => setDialog("new")} onSettings={() => setDialog("settings")} />
        <main class="main">
          <h1 class="hidden-text narrow-only">{t().appName}</h1>
          <Banner />
          <Show when={selected()} keyed fallback={<Nothing />}>
            {(conversation) => (
              <ConversationView
                conversation={conversation}
                hasDetails={details()}
                onDetails={() => setDetails(!details())}
                onBack={leave}
              />
            )}
          </Show>
        </main>
        <Show when={hasDetails() && selected()} keyed>
          {(conversation) => <Details conversation={conversation} onClose={() => setDetails(false)} />}
        </Show>
      </div>
      <Switch>
        <Match when={dialog() === "new"}>
          <NewConversation onClose={() => setDialog(undefined)} />
        </Match>
        <Match when={dialog() === "settings"}>
          <Settings onClose={() => setDialog(undefined)} onShortcuts={() => setDialog("shortcuts")} />
        </Match>
        <Match when={dialog() === "shortcuts"}>
          <Shortcuts onClose={() => setDialog(undefined)} />
        </Match>
      </Switch>
      <Show when={question()} keyed>
        {(asked) => <Confirm question={asked} onClose={() => setQuestion(undefined)} />}
      </Show>
      <div class="notice" role="alert" classList={{ shown: notice() !== "" }}>
        <span>{notice()}</span>
        <Show when={notice()}>
          <button type="button" class="icon-button small" aria-label={t().close} onClick={() => setNotice("")}>
            <Icon name="close" />
          </button>
        </Show>
      </div>
    </PageContext.Provider>
  );
}

/** A private chat that is not in the list. */
function privateChat({ client }: Chat, asked: { id: string; from: string }): Conversation | undefined {
  const found = asked.from ? client.direct(asked.from) : undefined;
  return found?.id === asked.id ? found : undefined;
}

function Nothing(): JSX.Element {
  return (
    <div class="empty">
      <span class="picture">
        <Icon name="chat" />
      </span>
      <h2>{t().selectConversation}</h2>
      <p>{t().selectConversationText}</p>
    </div>
  );
}
