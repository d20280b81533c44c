/** Pinned messages: the bar at the top, and the list of all. */

import type { Message } from "im-client";
import { createEffect, createMemo, createSignal, For, type JSX, on, Show } from "solid-js";
import { t } from "../i18n/index.ts";
import { oneLine } from "../lib/text.ts";
import { preview } from "../store/titles.ts";
import { usePage, useTalk } from "./context.ts";
import { Dialog, sentence } from "./dialog.tsx";
import { Icon } from "./icon.tsx";

export function PinBar(): JSX.Element {
  const { chat } = usePage();
  const talk = useTalk();
  const [at, setAt] = createSignal(0);
  const [list, setList] = createSignal(false);
  // As they are now: a recalled message is not pinned any more.
  const pins = createMemo(() =>
    talk
      .pins()
      .map((message) => talk.here(message.seq) ?? message)
      .filter(({ recalled }) => !recalled),
  );
  const size = createMemo(() => pins().length);
  createEffect(on(size, () => setAt(0)));
  const shown = (): Message | undefined => pins()[at() % Math.max(1, pins().length)];
  const jump = (): void => {
    const message = shown();
    if (message) talk.jump(message.seq);
    setAt((at() + 1) % Math.max(1, pins().length));
  };
  return (
    <Show when={shown()}>
      {(message) => (
        <section class="pin-bar" aria-label={t().pinnedMessages}>
          <Icon name="pin" />
          <button type="button" class="pin-text" onClick={jump} title={t().jumpTo}>
            <small>
              {pins().length > 1 ? t().pinnedOf((at() % pins().length) + 1, pins().length) : t().pinnedMessage}
            </small>
            <span class="ellipsis">
              <bdi>{oneLine(preview(chat, message()), 160)}</bdi>
            </span>
          </button>
          <button
            type="button"
            class="icon-button"
            aria-label={t().pinnedMessages}
            title={t().pinnedMessages}
            aria-haspopup="dialog"
            onClick={() => setList(true)}
          >
            <Icon name="list" />
          </button>
          <Show when={list()}>
            <PinList pins={pins()} onClose={() => setList(false)} />
          </Show>
        </section>
      )}
    </Show>
  );
}

function PinList(props: { pins: readonly Message[]; onClose: () => void }): JSX.Element {
  const { chat, tell } = usePage();
  const talk = useTalk();
  const unpin = (message: Message): void => {
    talk.conversation.pin(message.seq, true).catch((error: unknown) => tell(sentence(error)));
    if (props.pins.length === 1) props.onClose();
  };
  return (
    <Dialog title={t().pinnedMessages} onClose={props.onClose}>
      <For each={props.pins}>
        {(message) => (
          <div class="pin-entry">
            <button
              type="button"
              class="pin-text"
              onClick={() => {
                props.onClose();
                talk.jump(message.seq);
              }}
            >
              <small>
                <bdi>{message.mine ? t().you : chat.directory.user(message.senderId)}</bdi>
              </small>
              <span class="clamped-2">
                <bdi>{oneLine(preview(chat, message), 240)}</bdi>
              </span>
            </button>
            <Show when={talk.isAdmin}>
              <button type="button" class="button small" onClick={() => unpin(message)}>
                {t().unpinMessage}
              </button>
            </Show>
          </div>
        )}
      </For>
    </Dialog>
  );
}
