import type { Conversation } from "im-client";
import { createEffect, createMemo, createSignal, For, type JSX, onCleanup, onMount, Show } from "solid-js";
import { t } from "../i18n/index.ts";
import { bytes, graphemes } from "../lib/text.ts";
import { usePage } from "./context.ts";
import { sentence } from "./dialog.tsx";
import { Icon } from "./icon.tsx";

/** The longest content that the server takes, in bytes. */
const CONTENT_MAX = 4_096;
/** From here on the remaining bytes are shown. */
const NEAR_END = 400;
const EMOJI = graphemes("😀😂🥰😍😎🤔😅😭😡👍👎👏🙏💪👌✌️❤️💔🔥✨🎉🎁🌹☕🍺🍜🎂⚽🚀💡✅❌⏰📷🎵🐶🐱🌞🌧️🌈", 64);

export function Composer(props: { conversation: Conversation; onSent: () => void }): JSX.Element {
  const { chat } = usePage();
  const { conversation } = props;
  const [text, setText] = createSignal(chat.drafts.get(conversation.id));
  const [problem, setProblem] = createSignal("");
  const [emoji, setEmoji] = createSignal(false);
  let field!: HTMLTextAreaElement;
  let box!: HTMLFormElement;

  const left = createMemo(() => CONTENT_MAX - bytes(text().trim()));
  const note = (): string => {
    if (problem()) return problem();
    if (left() < 0) return t().tooLong(CONTENT_MAX - left(), CONTENT_MAX);
    return left() < NEAR_END ? t().bytesLeft(left()) : "";
  };
  const change = (value: string): void => {
    setText(value);
    setProblem("");
    chat.drafts.set(conversation.id, value);
    if (value) conversation.typing();
  };
  const send = (): void => {
    const content = text().trim();
    if (!content || left() < 0) return;
    try {
      const sent = conversation.send(content);
      // The message itself shows what becomes of it.
      sent.accepted().catch(() => {});
    } catch (error) {
      return void setProblem(sentence(error));
    }
    change("");
    props.onSent();
    field.focus();
  };
  const keys = (event: KeyboardEvent): void => {
    // Enter ends the choice of a character in an input method; 229 is what Safari reports then.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    send();
  };
  const insert = (one: string): void => {
    const [start, end] = [field.selectionStart, field.selectionEnd];
    change(text().slice(0, start) + one + text().slice(end));
    setEmoji(false);
    field.focus();
    field.setSelectionRange(start + one.length, start + one.length);
  };
  const outside = (event: Event): void => {
    if (!box.contains(event.target as Node)) setEmoji(false);
  };
  document.addEventListener("pointerdown", outside);
  onCleanup(() => document.removeEventListener("pointerdown", outside));
  // Browsers without `field-sizing`: the height follows the text.
  createEffect(() => {
    text();
    if (CSS.supports("field-sizing", "content")) return;
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
  });
  onMount(() => {
    // On a phone the keyboard would cover half of the conversation.
    if (matchMedia("(pointer: fine)").matches) field.focus();
  });

  return (
    <div class="composer">
      <form
        ref={box}
        onSubmit={(event) => {
          event.preventDefault();
          send();
        }}
        onKeyDown={(event) => {
          if (event.key !== "Escape" || !emoji()) return;
          setEmoji(false);
          field.focus();
          event.preventDefault();
          event.stopPropagation();
        }}
      >
        <div class="composer-field">
          <textarea
            ref={field}
            rows="1"
            dir={text() ? "auto" : undefined}
            aria-label={t().writeMessage}
            placeholder={t().writeMessage}
            aria-describedby="composer-note"
            value={text()}
            onInput={(event) => change(event.currentTarget.value)}
            onKeyDown={keys}
          />
          <span class="menu-anchor">
            <button
              type="button"
              class="icon-button"
              aria-label={t().emoji}
              title={t().emoji}
              aria-expanded={emoji()}
              onClick={() => setEmoji(!emoji())}
            >
              <Icon name="smile" />
            </button>
            <Show when={emoji()}>
              <div class="emoji-box" role="group" aria-label={t().emoji}>
                <For each={EMOJI}>
                  {(one) => (
                    <button type="button" onClick={() => insert(one)}>
                      {one}
                    </button>
                  )}
                </For>
              </div>
            </Show>
          </span>
        </div>
        <button
          type="submit"
          class="icon-button send"
          aria-label={t().send}
          title={t().send}
          disabled={!text().trim() || left() < 0}
        >
          <Icon name="send" />
        </button>
      </form>
      <div
        id="composer-note"
        class="composer-note"
        classList={{ "error-text": left() < 0 || problem() !== "" }}
        role="status"
      >
        {note()}
      </div>
    </div>
  );
}
