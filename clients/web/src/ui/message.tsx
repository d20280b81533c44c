import type { Conversation, Message } from "im-client";
import { createMemo, createSignal, For, type JSX, Match, Show, Switch } from "solid-js";
import { t } from "../i18n/index.ts";
import { EVERYONE, pieces } from "../lib/mentions.ts";
import { hashed, isEmojiOnly, isFromRight, parts } from "../lib/text.ts";
import { clock, full, isTime } from "../lib/time.ts";
import { type MessageRow, SYSTEM } from "../store/timeline.ts";
import { systemText } from "../store/titles.ts";
import { Attachments } from "./attachments.tsx";
import { Avatar } from "./avatar.tsx";
import { usePage, useTalk } from "./context.ts";
import { Forward } from "./forward.tsx";
import { Icon, type IconName } from "./icon.tsx";
import { Actions } from "./message-actions.tsx";
import { Quote } from "./quote.tsx";
import { Reactions, Reactors } from "./reactions.tsx";
import { SeenBy } from "./seen-by.tsx";

/** Longer messages are cut until the reader wants all of it. */
const LONG_CHARS = 1_500;
const LONG_LINES = 24;

export function MessageView(props: { row: MessageRow; conversation: Conversation; isMarked: boolean }): JSX.Element {
  const { chat } = usePage();
  const shown = props.row.shown;
  const message = (): Message => shown().message;
  const isGroup = props.conversation.kind === "group";
  const [active, setActive] = createSignal(false);
  const [seen, setSeen] = createSignal(false);
  const [who, setWho] = createSignal(false);
  const [forward, setForward] = createSignal(false);
  const mentionsMe = (): boolean =>
    !message().mine && message().mentions?.some((id) => id === chat.me || id === EVERYONE) === true;
  const name = (): string => chat.directory.user(message().senderId);
  const tap = (event: MouseEvent): void => {
    if (!(event.target as HTMLElement).closest("a, button, audio, video")) setActive(!active());
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
            "is-marked": props.isMarked,
            "mentions-me": mentionsMe(),
          }}
          data-seq={message().seq}
          tabindex="-1"
          aria-label={`${message().mine ? t().you : name()}, ${time(message())}`}
        >
          <Show when={isGroup && !message().mine}>
            <Show when={shown().last} fallback={<span />}>
              <Avatar id={message().senderId} name={name()} size="small" />
            </Show>
          </Show>
          <div class="bubble-box">
            <Bubble row={props.row} conversation={props.conversation} isGroup={isGroup} name={name()} tap={tap} />
            <Reactions message={message()} onWho={() => setWho(true)} />
            <Failure message={message()} conversation={props.conversation} />
            <Actions
              message={message()}
              conversation={props.conversation}
              onSeenBy={() => setSeen(true)}
              onWho={() => setWho(true)}
              onForward={() => setForward(true)}
            />
          </div>
        </article>
        <Show when={seen()}>
          <SeenBy conversation={props.conversation} seq={message().seq} onClose={() => setSeen(false)} />
        </Show>
        <Show when={forward()}>
          <Forward message={message()} onClose={() => setForward(false)} />
        </Show>
        <Show when={who()}>
          <Reactors conversation={props.conversation} message={message()} onClose={() => setWho(false)} />
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
  const talk = useTalk();
  const message = (): Message => props.row.shown().message;
  const editedAt = (): number => message().editedAt ?? 0;
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
          <Quote message={message()} />
          <Attachments message={message()} />
          <Show
            when={message().content}
            fallback={<Show when={message().msgType > 99}>{t().unknownType(message().msgType)}</Show>}
          >
            <Text
              content={message().content}
              mentions={message().mentions ?? []}
              foot={isJumbo() ? "" : footText(message(), talk.isPinned(message()))}
            />
          </Show>
        </Match>
      </Switch>
      <div class="foot">
        <Show when={talk.isPinned(message())}>
          <span role="img" aria-label={t().pinned} title={t().pinned}>
            <Icon name="pin" />
          </span>
        </Show>
        <Show when={message().editedAt !== undefined && !message().recalled}>
          <span class="edited" title={isTime(editedAt()) ? t().editedAt(full(editedAt())) : ""}>
            {editedText(editedAt())}
          </span>
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
function footText(message: Message, isPinned: boolean): string {
  const time = isTime(message.sendTime) ? clock(message.sendTime) : "";
  const edited = message.editedAt === undefined ? "" : `${editedText(message.editedAt)} `;
  return `${isPinned ? "✓✓ " : ""}${edited}${time}${message.mine ? " ✓✓" : ""}`;
}

const editedText = (at: number): string => (isTime(at) ? t().editedAt(clock(at)) : t().edited);

/** The text as text, with links that are only those of the web. */
function Text(props: { content: string; mentions: readonly string[]; foot: string }): JSX.Element {
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
            <Show when={part.href} fallback={<Plain text={part.text} mentions={props.mentions} />}>
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

/** Text without links; mentions have the names of users. */
function Plain(props: { text: string; mentions: readonly string[] }): JSX.Element {
  const { chat } = usePage();
  return (
    <For each={pieces(props.text, props.mentions)}>
      {({ text, id }) => (
        <Show when={id} fallback={text}>
          {(user) => (
            <bdi
              class="mention"
              classList={{ "is-me": user() === chat.me || user() === EVERYONE }}
              title={user() === EVERYONE ? t().everyone : user()}
            >
              {user() === EVERYONE ? text : `@${chat.directory.user(user())}`}
            </bdi>
          )}
        </Show>
      )}
    </For>
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
