/** What stands around the messages of a conversation: the line at their beginning, and the buttons that lead elsewhere. */

import type { Conversation } from "im-client";
import { type JSX, Match, Show, Switch } from "solid-js";
import { t } from "../i18n/index.ts";
import { usePage, useTalk } from "./context.ts";
import { Icon } from "./icon.tsx";

/** To the first unread mention, and to the newest message. */
export function Jumps(props: {
  conversation: Conversation;
  isAtEnd: boolean;
  /** The newest messages are looked at: their mentions are read in a moment. */
  isRead: boolean;
  /** New messages below the visible ones. */
  below: number;
  toEnd: () => void;
}): JSX.Element {
  const { chat } = usePage();
  const talk = useTalk();
  const now = (): Conversation => chat.of(props.conversation);
  return (
    <div class="jumps">
      <Show when={now().mentionSeq > 0 && !props.isRead}>
        <button type="button" class="to-mention" onClick={() => talk.jump(now().mentionSeq)} title={t().toMention}>
          <Icon name="at" />
          <span aria-hidden="true">{now().mentions}</span>
          <span class="hidden-text">{t().unreadMentions(now().mentions)}</span>
        </button>
      </Show>
      <Show when={!props.isAtEnd}>
        <button
          type="button"
          class="to-newest"
          classList={{ "has-new": props.below > 0 }}
          onClick={() => props.toEnd()}
          title={t().toNewest}
        >
          <Icon name="down" />
          <Show when={props.below > 0} fallback={<span class="hidden-text">{t().toNewest}</span>}>
            {t().newBelow(props.below)}
          </Show>
        </button>
      </Show>
    </div>
  );
}

export function Top(props: {
  conversation: Conversation;
  hasOlder: boolean;
  loading: "no" | "yes" | "failed";
  ready: boolean;
  retry: () => void;
}): JSX.Element {
  const { chat } = usePage();
  const now = (): Conversation => chat.of(props.conversation);
  return (
    <div class="top-note">
      <Switch>
        <Match when={props.loading === "failed"}>
          {t().loadFailed}
          <button type="button" class="link-button" onClick={() => props.retry()}>
            {t().retry}
          </button>
        </Match>
        <Match when={!props.ready || props.hasOlder}>
          <i class="spinner" />
          {t().loadingOlder}
        </Match>
        <Match when={now().messages.length === 0}>{t().noMessages}</Match>
        <Match when={true}>{t().beginning}</Match>
      </Switch>
    </div>
  );
}
