/** The messages of a conversation: only what is near the visible part is in the document. */

import type { Conversation, Message } from "im-client";
import { createEffect, createSignal, type JSX, Match, on, onCleanup, onMount, Show, Switch, untrack } from "solid-js";
import { Virtualizer, type VirtualizerHandle } from "virtua/solid";
import { t } from "../i18n/index.ts";
import { oneLine } from "../lib/text.ts";
import { dayName } from "../lib/time.ts";
import { type MessageRow, type NoteRow, type Row, Timeline } from "../store/timeline.ts";
import { preview } from "../store/titles.ts";
import { usePage } from "./context.ts";
import { Icon } from "./icon.tsx";
import { MessageView } from "./message.tsx";

/** This near to the end counts as being there. */
const END_PX = 60;
/** Earlier messages are loaded when the beginning is this near. */
const LOAD_PX = 900;
/** The list moves by itself for this long after the reader has moved it. */
const INPUT_MS = 500;
/** The end has settled when it has not moved for this many frames. */
const SETTLED_FRAMES = 6;
/** Messages that stay in memory while the reader is at the end of a busy conversation. */
const KEEP = 1_000;
const TRIM_ABOVE = 2_000;
/** Spoken at most this often. */
const SPEAK_MS = 1_500;

export function TimelineView(props: { conversation: Conversation; ref: (toBottom: () => void) => void }): JSX.Element {
  const { chat } = usePage();
  const { conversation } = props;
  const timeline = new Timeline(conversation);
  /** The reader is at the end, and new messages are followed. */
  const [follows, setFollows] = createSignal(true);
  const [below, setBelow] = createSignal(0);
  const [loading, setLoading] = createSignal<"no" | "yes" | "failed">("no");
  const [spoken, setSpoken] = createSignal("");
  const [ready, setReady] = createSignal(false);
  let box!: HTMLDivElement;
  let handle: VirtualizerHandle | undefined;
  let lastSeq = 0;

  // Rows that are added, removed or measured move the list as well: only the reader ends the following.
  const input = { at: Number.NEGATIVE_INFINITY, isDown: false };
  const byReader = (): void => {
    input.at = performance.now();
  };
  const isAtEnd = (): boolean =>
    handle !== undefined && handle.scrollSize - handle.scrollOffset - handle.viewportSize < END_PX;
  let settling = 0;
  /** Rows are measured when they are there, and the end moves: it is followed until it stays for some frames. */
  const settle = (frames: number): void => {
    cancelAnimationFrame(settling);
    settling = requestAnimationFrame(() => {
      if (!follows()) return;
      if (box.scrollHeight - box.scrollTop - box.clientHeight > 1) {
        box.scrollTop = box.scrollHeight;
        settle(SETTLED_FRAMES);
      } else if (frames > 0) settle(frames - 1);
    });
  };
  const scrollToEnd = (): void => {
    input.at = Number.NEGATIVE_INFINITY;
    setFollows(true);
    setBelow(0);
    handle?.scrollToIndex(timeline.rows().length - 1, { align: "end" });
    settle(SETTLED_FRAMES);
  };
  onCleanup(() => cancelAnimationFrame(settling));
  props.ref(scrollToEnd);

  const isVisible = (): boolean => document.visibilityState === "visible" && document.hasFocus();
  /** Everything down to the lowest visible message has been read. */
  const markRead = (): void => {
    if (!ready() || !isVisible() || !conversation.member || conversation.unread === 0) return;
    if (follows()) {
      conversation.markRead();
      return;
    }
    const rows = timeline.rows();
    if (!handle) return;
    const lowest = handle.findItemIndex(handle.scrollOffset + handle.viewportSize);
    for (let at = Math.min(lowest, rows.length - 1); at > 0; at--) {
      const row = rows[at];
      if (row?.kind !== "message" || row.shown().message.seq === 0) continue;
      if (row.shown().message.seq > conversation.readSeq) conversation.markRead(row.shown().message.seq);
      return;
    }
  };
  const loadOlder = async (): Promise<void> => {
    if (loading() === "yes" || !conversation.hasOlder || !ready()) return;
    setLoading("yes");
    try {
      await conversation.loadOlder();
      setLoading("no");
    } catch {
      setLoading("failed");
    }
  };
  let [offset, size] = [0, 0];
  const scrolled = (): void => {
    if (!handle) return;
    const isMovedUp = handle.scrollOffset < offset - END_PX && handle.scrollSize === size;
    offset = handle.scrollOffset;
    size = handle.scrollSize;
    if (isAtEnd()) {
      setFollows(true);
      setBelow(0);
    } else if (input.isDown || performance.now() - input.at < INPUT_MS || isMovedUp) {
      setFollows(false);
    }
    if (handle.scrollOffset < LOAD_PX && loading() === "no") void loadOlder();
    markRead();
  };

  // A sync may know of newer messages than those that are here.
  const newestShown = (): number => conversation.messages.findLast(({ state }) => state === "stored")?.seq ?? 0;
  const open = async (): Promise<void> => {
    const { readSeq, unread } = conversation;
    await conversation.open();
    timeline.update();
    if (unread > 0) timeline.markUnread(readSeq);
    lastSeq = newestShown();
    setReady(true);
    const first = timeline.unreadIndex();
    // The line of unread messages at the top, unless all of them fit below it anyway.
    if (first > 0) {
      setFollows(false);
      handle?.scrollToIndex(first, { align: "start" });
    } else scrollToEnd();
    requestAnimationFrame(scrolled);
  };
  onMount(() => {
    timeline.update();
    void open().catch(() => setLoading("failed"));
  });
  // Opening needs a connection: a failed attempt is repeated when there is one.
  createEffect(
    on(
      () => chat.connection().synced,
      (synced) => {
        if (!synced) return;
        if (!untrack(ready)) void open().catch(() => setLoading("failed"));
        else if (untrack(loading) === "failed") void loadOlder();
      },
      { defer: true },
    ),
  );

  const spokenAt = { time: 0 };
  const speak = (message: Message): void => {
    if (Date.now() - spokenAt.time < SPEAK_MS || !isVisible()) return;
    spokenAt.time = Date.now();
    setSpoken(`${chat.directory.user(message.senderId)}: ${oneLine(preview(chat, message), 200)}`);
  };
  createEffect(() => {
    chat.of(conversation);
    untrack(() => {
      timeline.update();
      if (!ready()) return;
      const fresh = conversation.messages.filter(
        ({ seq, mine, msgType }) => seq > lastSeq && !mine && (msgType <= 2 || msgType > 6),
      );
      lastSeq = Math.max(lastSeq, newestShown());
      const last = fresh.at(-1);
      if (last) speak(last);
      if (follows()) {
        // Not by index: in a busy group the list would still move to an end that is none any more, and look scrolled up.
        settle(SETTLED_FRAMES);
        if (conversation.messages.length > TRIM_ABOVE) conversation.trim(KEEP);
      } else setBelow((n) => n + fresh.length);
      markRead();
    });
  });
  const returned = (): void => markRead();
  window.addEventListener("focus", returned);
  document.addEventListener("visibilitychange", returned);
  // The keyboard of a phone, or a composer that grows, takes room from the end.
  const resized = new ResizeObserver(() => {
    if (ready() && follows()) scrollToEnd();
  });
  onMount(() => {
    resized.observe(box);
    for (const type of ["wheel", "touchmove", "keydown"]) box.addEventListener(type, byReader, { passive: true });
  });
  const press = (isDown: boolean): void => {
    input.isDown = isDown;
  };
  const released = (): void => press(false);
  window.addEventListener("pointerup", released);
  onCleanup(() => {
    window.removeEventListener("focus", returned);
    document.removeEventListener("visibilitychange", returned);
    window.removeEventListener("pointerup", released);
    resized.disconnect();
  });

  return (
    <div class="timeline-box">
      <div
        class="timeline"
        ref={box}
        role="log"
        aria-live="off"
        aria-label={t().messages}
        tabindex="0"
        onPointerDown={() => press(true)}
      >
        <div class="spacer" />
        <Virtualizer
          ref={(made) => (handle = made)}
          data={timeline.rows()}
          shift={timeline.isShift()}
          scrollRef={box}
          onScroll={scrolled}
          bufferSize={600}
        >
          {(row: Row) => (
            <Switch>
              <Match when={row.kind === "message"}>
                <MessageView row={row as MessageRow} conversation={conversation} />
              </Match>
              <Match when={row.kind === "top"}>
                <Top conversation={conversation} loading={loading()} ready={ready()} retry={() => void loadOlder()} />
              </Match>
              <Match when={row.kind === "day"}>
                <div class="day">
                  <span>{dayName((row as NoteRow).day ?? 0, t())}</span>
                </div>
              </Match>
              <Match when={row.kind === "unread"}>
                <div class="unread-line">{t().newMessages}</div>
              </Match>
              <Match when={row.kind === "end"}>
                <div class="end-space" />
              </Match>
            </Switch>
          )}
        </Virtualizer>
      </div>
      <Show when={!follows()}>
        <button
          type="button"
          class="to-newest"
          classList={{ "has-new": below() > 0 }}
          onClick={scrollToEnd}
          title={t().toNewest}
        >
          <Icon name="down" />
          <Show when={below() > 0} fallback={<span class="hidden-text">{t().toNewest}</span>}>
            {t().newBelow(below())}
          </Show>
        </button>
      </Show>
      <span class="hidden-text" role="status">
        {spoken()}
      </span>
    </div>
  );
}

function Top(props: {
  conversation: Conversation;
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
        <Match when={!props.ready || now().hasOlder}>
          <i class="spinner" />
          {t().loadingOlder}
        </Match>
        <Match when={now().messages.length === 0}>{t().noMessages}</Match>
        <Match when={true}>{t().beginning}</Match>
      </Switch>
    </div>
  );
}
