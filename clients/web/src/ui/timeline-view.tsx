/** The messages of a conversation: only what is near the visible part is in the document. */

import { type Conversation, Excerpt, type Message } from "im-client";
import {
  batch,
  createEffect,
  createSignal,
  type JSX,
  Match,
  on,
  onCleanup,
  onMount,
  Show,
  Switch,
  untrack,
} from "solid-js";
import { Virtualizer, type VirtualizerHandle } from "virtua/solid";
import { t } from "../i18n/index.ts";
import { oneLine } from "../lib/text.ts";
import { dayName } from "../lib/time.ts";
import { type MessageRow, type NoteRow, type Row, Timeline } from "../store/timeline.ts";
import { preview } from "../store/titles.ts";
import { usePage, useTalk } from "./context.ts";
import { sentence } from "./dialog.tsx";
import { MessageView } from "./message.tsx";
import { Jumps, Top } from "./timeline-parts.tsx";

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
/** A message that was jumped to is marked for this long. */
const MARKED_MS = 2_500;
/** Spoken at most this often. */
const SPEAK_MS = 1_500;

export function TimelineView(props: { conversation: Conversation; ref: (toBottom: () => void) => void }): JSX.Element {
  const { chat, tell } = usePage();
  const talk = useTalk();
  const { conversation } = props;
  const timeline = new Timeline(conversation);
  /** The messages around an older one, while the reader is there. */
  const [excerpt, setExcerpt] = createSignal<Excerpt | undefined>(undefined);
  /** With another number the list is made anew, since no row of it stays. */
  const [list, setList] = createSignal(1);
  const [marked, setMarked] = createSignal(0);
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
  /** Shows the messages around an older one, or the newest ones again. */
  const show = (next: Excerpt | undefined): void =>
    batch(() => {
      untrack(excerpt)?.close();
      setExcerpt(next);
      setList((n) => n + 1);
      timeline.setSource(next ?? conversation);
    });
  const scrollToEnd = (): void => {
    input.at = Number.NEGATIVE_INFINITY;
    if (untrack(excerpt)) show(undefined);
    setFollows(true);
    setBelow(0);
    // Not by index: the list would still move to that row when others have come after it.
    box.scrollTop = box.scrollHeight;
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
  const source = (): Conversation | Excerpt => excerpt() ?? conversation;
  const hasOlder = (): boolean => {
    timeline.rows();
    chat.of(conversation);
    return source().hasOlder;
  };
  const loadOlder = async (): Promise<void> => {
    if (loading() === "yes" || !source().hasOlder || !ready()) return;
    setLoading("yes");
    try {
      await source().loadOlder();
      chat.files.prepare(source().messages);
      setLoading("no");
    } catch {
      setLoading("failed");
    }
  };
  let isLoadingNewer = false;
  const loadNewer = async (): Promise<void> => {
    const now = excerpt();
    if (!now || isLoadingNewer) return;
    isLoadingNewer = true;
    // Without a connection the next movement tries again.
    await now.loadNewer().catch(() => {});
    isLoadingNewer = false;
    requestAnimationFrame(scrolled);
  };
  let [offset, size] = [0, 0];
  const scrolled = (): void => {
    if (!handle) return;
    const isMovedUp = handle.scrollOffset < offset - END_PX && handle.scrollSize === size;
    offset = handle.scrollOffset;
    size = handle.scrollSize;
    if (excerpt()) {
      if (handle.scrollSize - handle.scrollOffset - handle.viewportSize < LOAD_PX) void loadNewer();
    } else if (isAtEnd()) {
      setFollows(true);
      setBelow(0);
    } else if (input.isDown || performance.now() - input.at < INPUT_MS || isMovedUp) {
      setFollows(false);
    }
    if (handle.scrollOffset < LOAD_PX && loading() === "no") void loadOlder();
    markRead();
  };

  let jumps = 0;
  const jump = async (seq: number): Promise<void> => {
    if (!ready()) return;
    const mine = ++jumps;
    if (timeline.indexOf(seq) < 0) {
      const made: Excerpt = new Excerpt(conversation, () => {
        if (excerpt() !== made) return;
        if (made.hasNewer) return timeline.update();
        // It has become a part of the conversation's window.
        setExcerpt(undefined);
        timeline.setSource(conversation);
      });
      try {
        await made.open(seq);
      } catch (error) {
        made.close();
        return tell(sentence(error));
      }
      if (mine !== jumps) return made.close();
      chat.files.prepare(made.messages);
      if (made.hasNewer) show(made);
      else timeline.setSource(conversation);
    }
    const at = timeline.indexOf(seq);
    if (at < 0) return tell(t().messageGone);
    input.at = Number.NEGATIVE_INFINITY;
    setFollows(false);
    setMarked(seq);
    setTimeout(() => setMarked((now) => (now === seq ? 0 : now)), MARKED_MS);
    // The list may be a new one.
    requestAnimationFrame(() => handle?.scrollToIndex(timeline.indexOf(seq), { align: "center" }));
    for (let frame = 0; frame < 30 && mine === jumps; frame++) {
      await new Promise((resolve) => requestAnimationFrame(resolve));
      const article = box.querySelector<HTMLElement>(`[data-seq="${seq}"]`);
      if (!article) continue;
      article.focus({ preventScroll: true });
      break;
    }
  };
  talk.jump = (seq) => void jump(seq);
  talk.others = () => excerpt()?.messages ?? [];
  onCleanup(() => {
    jumps++;
    excerpt()?.close();
  });

  // A sync may know of newer messages than those that are here.
  const newestShown = (): number => conversation.messages.findLast(({ state }) => state === "stored")?.seq ?? 0;
  const open = async (): Promise<void> => {
    const { readSeq, unread } = conversation;
    await conversation.open();
    chat.files.prepare(conversation.messages);
    timeline.update();
    if (unread > 0) timeline.markUnread(readSeq);
    // It is open now.
    if (conversation.settings.marked_unread) conversation.markRead(readSeq);
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
      // It was cleared: there is nothing to jump to any more.
      if (excerpt() && !conversation.hasOlder) show(undefined);
      if (!conversation.loaded) {
        setReady(false);
        return void open().catch(() => setLoading("failed"));
      }
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
        <Show when={list()} keyed>
          {(_list) => (
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
                    <MessageView
                      row={row as MessageRow}
                      conversation={conversation}
                      isMarked={marked() > 0 && marked() === (row as MessageRow).shown().message.seq}
                    />
                  </Match>
                  <Match when={row.kind === "top"}>
                    <Top
                      conversation={conversation}
                      hasOlder={hasOlder()}
                      loading={loading()}
                      ready={ready()}
                      retry={() => void loadOlder()}
                    />
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
                    <Show when={excerpt()} fallback={<div class="end-space" />}>
                      <div class="top-note">
                        <i class="spinner" />
                        {t().loading}
                      </div>
                    </Show>
                  </Match>
                </Switch>
              )}
            </Virtualizer>
          )}
        </Show>
      </div>
      <Jumps
        conversation={conversation}
        isAtEnd={follows()}
        isRead={follows() && isVisible()}
        below={below()}
        toEnd={scrollToEnd}
      />
      <span class="hidden-text" role="status">
        {spoken()}
      </span>
    </div>
  );
}
