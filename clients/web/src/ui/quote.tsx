import type { Message } from "im-client";
import { createMemo, type JSX, Match, Show, Switch } from "solid-js";
import { t } from "../i18n/index.ts";
import { oneLine } from "../lib/text.ts";
import { preview } from "../store/titles.ts";
import { usePage, useTalk } from "./context.ts";

/** The message that this one answers, in a line that leads to it. */
export function Quote(props: { message: Message }): JSX.Element {
  const { chat } = usePage();
  const talk = useTalk();
  const seq = (): number => props.message.replyTo ?? 0;
  const target = createMemo(() => (seq() > 0 ? talk.quoted(seq()) : undefined));
  return (
    <Show when={seq() > 0}>
      <button type="button" class="quote" onClick={() => talk.jump(seq())} disabled={target() === null}>
        <span class="hidden-text">{t().answerTo}</span>
        <Switch fallback={<span class="ellipsis">{t().loading}</span>}>
          <Match when={target() === null}>
            <span class="ellipsis">{t().messageGone}</span>
          </Match>
          <Match when={target()}>
            {(message) => (
              <>
                <b class="ellipsis">
                  <bdi>{message().mine ? t().you : chat.directory.user(message().senderId)}</bdi>
                </b>
                <span class="ellipsis">
                  <bdi>{oneLine(preview(chat, message()), 120)}</bdi>
                </span>
              </>
            )}
          </Match>
        </Switch>
      </button>
    </Show>
  );
}
