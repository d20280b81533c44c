import type { Conversation, Message } from "im-client";
import { createMemo, createSignal, For, type JSX, Match, Show, Switch } from "solid-js";
import { t } from "../i18n/index.ts";
import { copyText } from "../lib/copy.ts";
import { hashed, isEmojiOnly, isFromRight, oneLine, parts } from "../lib/text.ts";
import { clock, full, isTime } from "../lib/time.ts";
import { type MessageRow, SYSTEM } from "../store/timeline.ts";
import { preview, systemText } from "../store/titles.ts";
import { Avatar } from "./avatar.tsx";
import { usePage } from "./context.ts";
import { sentence } from "./dialog.tsx";
import { Icon, type IconName } from "./icon.tsx";
import { SeenBy } from "./seen-by.tsx";

/** Longer messages are cut until the reader wants all of it. */
const LONG_CHARS = 1_500;
const LONG_LINES = 24;
/** How long an own message can be recalled; owners and admins can always. */
const RECALL_MS = 120_000;

export function MessageView(props: { row: MessageRow; conversation: Conversation }): JSX.Element {
  const { chat } = usePage();
  const shown = props.row.shown;
  const message = (): Message => shown().message;
  const isGroup = props.conversation.kind === "group";
  const [active, setActive] = createSignal(false);
  const [seen, setSeen] = createSignal(false);
  const name = (): string => chat.directory.user(message().senderId);
  const tap = (event: MouseEvent): void => {
    if (!(event.target as HTMLElement).closest("a, button")) setActive(!active());
  };
  return (
    <Show
      when={message().msgType !== SYSTEM}
      fallback={
        <div class="system">
          <span title={time(message())}>{systemText(chat, message())}</span>
        </div>
      }
    >
      <div class="row" classList={{ first: shown().first }}>
        <article
          class="message"
          classList={{
            mine: message().mine,
            plain: !isGroup,
            last: shown().last,
            failed: message().state === "failed",
            "is-active": active(),
          }}
          data-seq={message().seq}
          aria-label={`${message().mine ? t().you : name()}, ${time(message())}`}
        >
          <Show when={isGroup && !message().mine}>
            <Show when={shown().last} fallback={<span />}>
              <Avatar id={message().senderId} name={name()} size="small" />
            </Show>
          </Show>
          <div class="bubble-box">
            <Bubble row={props.row} conversation={props.conversation} isGroup={isGroup} name={name()} tap={tap} />
            <Reactions message={message()} conversation={props.conversation} />
            <Failure message={message()} conversation={props.conversation} />
            <Actions message={message()} conversation={props.conversation} onSeenBy={() => setSeen(true)} />
          </div>
        </article>
        <Show when={seen()}>
          <SeenBy conversation={props.conversation} seq={message().seq} onClose={() => setSeen(false)} />
        </Show>
      </div>
    </Show>
  );
}

function time(message: Message): string {
  return isTime(message.sendTime) ? full(message.sendTime) : "";
}

function Bubble(props: {
  row: MessageRow;
  conversation: Conversation;
  isGroup: boolean;
  name: string;
  tap: (event: MouseEvent) => void;
}): JSX.Element {
  const message = (): Message => props.row.shown().message;
  const isJumbo = createMemo(() => !message().recalled && message().msgType === 1 && isEmojiOnly(message().content));
  return (
    // biome-ignore lint/a11y: a tap shows actions that are buttons themselves, and reached by the keyboard
    <div
      class="bubble"
      classList={{ jumbo: isJumbo(), recalled: message().recalled }}
      onClick={(event) => props.tap(event)}
    >
      <Show when={props.isGroup && !message().mine && props.row.shown().first}>
        <bdi class={`author c${hashed(message().senderId, 10)}`}>{props.name}</bdi>
      </Show>
      <Switch>
        <Match when={message().recalled}>{message().mine ? t().recalledByYou : t().recalled(props.name)}</Match>
        <Match when={true}>
          <Quote message={message()} conversation={props.conversation} />
          <Attachments message={message()} />
          <Show
            when={message().content}
            fallback={<Show when={message().msgType > 99}>{t().unknownType(message().msgType)}</Show>}
          >
            <Text content={message().content} foot={isJumbo() ? "" : footText(message())} />
          </Show>
        </Match>
      </Switch>
      <div class="foot">
        <Show when={message().editedAt !== undefined && !message().recalled}>
          <span>{t().edited}</span>
        </Show>
        <Show when={isTime(message().sendTime)}>
          <time dateTime={new Date(message().sendTime).toISOString()} title={full(message().sendTime)}>
            {clock(message().sendTime)}
          </time>
        </Show>
        <Show when={message().mine && !message().recalled}>
          <State message={message()} conversation={props.conversation} />
        </Show>
      </div>
    </div>
  );
}

/** What takes as much room as the line with the time, which stands beside the end of the text. */
function footText(message: Message): string {
  const time = isTime(message.sendTime) ? clock(message.sendTime) : "";
  return `${message.editedAt === undefined ? "" : `${t().edited} `}${time}${message.mine ? " ✓✓" : ""}`;
}

/** The text as text, with links that are only those of the web. */
function Text(props: { content: string; foot: string }): JSX.Element {
  const isLong = createMemo(
    () => props.content.length > LONG_CHARS || props.content.split("\n", LONG_LINES + 1).length > LONG_LINES,
  );
  const [all, setAll] = createSignal(false);
  return (
    <>
      <div
        class="text"
        dir="auto"
        data-foot={props.foot}
        classList={{ clamped: isLong() && !all(), "from-right": isFromRight(props.content) }}
      >
        <For each={parts(props.content)}>
          {(part) => (
            <Show when={part.href} fallback={part.text}>
              {(href) => (
                <a href={href()} target="_blank" rel="noopener noreferrer nofollow ugc">
                  {part.text}
                </a>
              )}
            </Show>
          )}
        </For>
      </div>
      <Show when={isLong()}>
        <button type="button" class="more" aria-expanded={all()} onClick={() => setAll(!all())}>
          {all() ? t().showLess : t().showMore}
        </button>
      </Show>
    </>
  );
}

/** How far an own message has come. */
function State(props: { message: Message; conversation: Conversation }): JSX.Element {
  const { chat } = usePage();
  const state = createMemo((): { icon: IconName; text: string; read?: boolean } => {
    const { message } = props;
    if (message.state === "failed") return { icon: "error", text: t().stateFailed };
    if (message.state === "sending") {
      return { icon: "clock", text: chat.connection().status === "online" ? t().stateSending : t().stateQueued };
    }
    if (message.state === "accepted") return { icon: "check", text: t().stateAccepted };
    if (chat.of(props.conversation).peerReadSeq >= message.seq)
      return { icon: "checks", text: t().stateRead, read: true };
    return { icon: props.conversation.kind === "private" ? "checks" : "check", text: t().stateStored };
  });
  return (
    <span
      role="img"
      aria-label={state().text}
      title={state().text}
      classList={{ read: state().read === true }}
      data-state={props.message.state}
    >
      <Icon name={state().icon} />
    </span>
  );
}

function Quote(props: { message: Message; conversation: Conversation }): JSX.Element {
  const { chat } = usePage();
  const target = createMemo(() => {
    const { replyTo } = props.message;
    return replyTo === undefined ? undefined : chat.of(props.conversation).messages.find(({ seq }) => seq === replyTo);
  });
  return (
    <Show when={props.message.replyTo !== undefined}>
      <span class="quote ellipsis">
        <Show when={target()} fallback="…">
          {(message) => (
            <>
              <b class="ellipsis">
                <bdi>{chat.directory.user(message().senderId)}</bdi>
              </b>
              <bdi>{oneLine(preview(chat, message()), 120)}</bdi>
            </>
          )}
        </Show>
      </span>
    </Show>
  );
}

function Attachments(props: { message: Message }): JSX.Element {
  return (
    <For each={props.message.attachments ?? []}>
      {(file) => (
        <span class="attachment">
          <Icon name="file" />
          <bdi>{file.name ?? t().file}</bdi>
        </span>
      )}
    </For>
  );
}

function Reactions(props: { message: Message; conversation: Conversation }): JSX.Element {
  const { chat } = usePage();
  const toggle = (reaction: string, isMine: boolean): void => {
    props.conversation
      .react(props.message.seq, reaction, isMine)
      .catch((error: unknown) => console.warn(sentence(error)));
  };
  return (
    <Show when={(props.message.reactions?.length ?? 0) > 0 && !props.message.recalled}>
      <div class="reactions">
        <For each={props.message.reactions}>
          {(one) => {
            const isMine = one.user_ids.includes(chat.me);
            const names = one.user_ids.map((id) => chat.directory.user(id)).join(", ");
            return (
              <button type="button" aria-pressed={isMine} title={names} onClick={() => toggle(one.reaction, isMine)}>
                <bdi>{one.reaction}</bdi> {one.count}
              </button>
            );
          }}
        </For>
      </div>
    </Show>
  );
}

function Failure(props: { message: Message; conversation: Conversation }): JSX.Element {
  return (
    <Show when={props.message.state === "failed"}>
      <div class="failure" role="alert">
        <span>{t().failedWhy(props.message.error?.message ?? "")}</span>
        <button type="button" onClick={() => props.conversation.retry(props.message.msgId)}>
          {t().retry}
        </button>
        <button type="button" onClick={() => props.conversation.discard(props.message.msgId)}>
          {t().discard}
        </button>
      </div>
    </Show>
  );
}

function Actions(props: { message: Message; conversation: Conversation; onSeenBy: () => void }): JSX.Element {
  const { chat, ask } = usePage();
  const mayRecall = (): boolean => {
    const { message, conversation } = props;
    if (message.seq === 0 || message.recalled || message.state === "failed" || !conversation.member) return false;
    const role = conversation.kind === "group" ? chat.directory.group(conversation.id)?.role : undefined;
    if (role === "owner" || role === "admin") return true;
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
  return (
    <Show when={!props.message.recalled && props.message.state !== "failed"}>
      <div class="actions" role="group" aria-label={t().messageActions}>
        <Show when={props.message.content}>
          <Action icon="copy" text={t().copy} run={() => void copyText(props.message.content)} />
        </Show>
        <Show when={props.conversation.kind === "group" && props.message.mine && props.message.state === "stored"}>
          <Action icon="eye" text={t().seenBy} run={props.onSeenBy} />
        </Show>
        <Show when={mayRecall()}>
          <Action icon="recall" text={t().recall} run={recall} />
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
