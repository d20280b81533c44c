/** Reactions to a message: chips, who gave them, and the picker. */

import type { Conversation, Message } from "im-client";
import { createResource, createSignal, For, type JSX, Show } from "solid-js";
import { t } from "../i18n/index.ts";
import { Avatar } from "./avatar.tsx";
import { usePage, useTalk } from "./context.ts";
import { Dialog, Problem, sentence } from "./dialog.tsx";
import { ReactionPicker } from "./emoji-picker.tsx";
import { PopupButton } from "./popup.tsx";

/** Pages of the dialog are loaded one after the other. */
const PAGE = 100;

/** Adds a reaction, or takes it back. */
export function useReact(): (message: Message, reaction: string, remove: boolean) => void {
  const { tell } = usePage();
  const { conversation } = useTalk();
  return (message, reaction, remove) => {
    conversation.react(message.seq, reaction, remove).catch((error: unknown) => tell(sentence(error)));
  };
}

export function ReactButton(props: { message: Message }): JSX.Element {
  const { chat } = usePage();
  const react = useReact();
  const isMine = (reaction: string): boolean =>
    props.message.reactions?.some((one) => one.reaction === reaction && one.user_ids.includes(chat.me)) === true;
  return (
    <PopupButton small icon="smile" role="group" label={t().react} popupClass="reaction-box">
      {(close) => (
        <ReactionPicker
          chosen={isMine}
          choose={(reaction) => {
            close();
            react(props.message, reaction, isMine(reaction));
          }}
        />
      )}
    </PopupButton>
  );
}

export function Reactions(props: { message: Message; onWho: () => void }): JSX.Element {
  const { chat } = usePage();
  const talk = useTalk();
  const react = useReact();
  const names = (ids: readonly string[], count: number): string => {
    const others = count - ids.length;
    return (
      ids.map((id) => (id === chat.me ? t().you : chat.directory.user(id))).join(", ") +
      (others > 0 ? t().andMore(others) : "")
    );
  };
  return (
    <Show when={(props.message.reactions?.length ?? 0) > 0 && !props.message.recalled}>
      <div class="reactions" role="group" aria-label={t().reactions}>
        <For each={props.message.reactions}>
          {(one) => {
            const isMine = one.user_ids.includes(chat.me);
            return (
              <button
                type="button"
                aria-pressed={isMine}
                aria-label={`${one.reaction} ${one.count}: ${names(one.user_ids, one.count)}`}
                title={names(one.user_ids, one.count)}
                disabled={!talk.has("reactions") || !talk.isThere(props.message)}
                onClick={() => react(props.message, one.reaction, isMine)}
                onContextMenu={(event) => {
                  event.preventDefault();
                  props.onWho();
                }}
              >
                <bdi>{one.reaction}</bdi> {one.count}
              </button>
            );
          }}
        </For>
      </div>
    </Show>
  );
}

/** Who reacted to a message, and with what. */
export function Reactors(props: { conversation: Conversation; message: Message; onClose: () => void }): JSX.Element {
  const { chat } = usePage();
  const react = useReact();
  const [all, setAll] = createSignal<{ reaction: string; user_id: string }[]>([]);
  const [cursor, setCursor] = createSignal<number | undefined>(undefined);
  const [page] = createResource(
    () => cursor() ?? 0,
    async (from) => {
      const { reactions, next_cursor } = await props.conversation.reactions(props.message.seq, from || undefined, PAGE);
      setAll([...all(), ...reactions]);
      return next_cursor;
    },
  );
  return (
    <Dialog title={t().reactions} onClose={props.onClose}>
      <Problem text={page.error ? sentence(page.error) : ""} />
      <For each={all()} fallback={<p class="dim">{page.loading ? t().loading : t().noReactions}</p>}>
        {(one) => (
          <div class="person">
            <Avatar id={one.user_id} name={chat.directory.user(one.user_id)} size="small" />
            <bdi class="who ellipsis">{one.user_id === chat.me ? t().you : chat.directory.user(one.user_id)}</bdi>
            <span class="reaction">{one.reaction}</span>
            <Show when={one.user_id === chat.me}>
              <button
                type="button"
                class="button small"
                onClick={() => {
                  react(props.message, one.reaction, true);
                  setAll(all().filter((other) => other !== one));
                }}
              >
                {t().takeBack}
              </button>
            </Show>
          </div>
        )}
      </For>
      <Show when={!page.error && page()}>
        {(next) => (
          <button type="button" class="button small wide" onClick={() => setCursor(next())}>
            {t().loadMore}
          </button>
        )}
      </Show>
    </Dialog>
  );
}
