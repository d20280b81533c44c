import { createSignal, For, type JSX } from "solid-js";
import { t } from "../i18n/index.ts";
import { REACTIONS } from "../lib/emoji.ts";
import { bytes } from "../lib/text.ts";

/** The longest reaction that the server takes, in bytes. */
const REACTION_MAX = 32;

/** A few reactions, and a field for any other one. */
export function ReactionPicker(props: {
  chosen: (reaction: string) => boolean;
  choose: (reaction: string) => void;
}): JSX.Element {
  const [text, setText] = createSignal("");
  const isGood = (): boolean =>
    text().trim() !== "" && !/\s/u.test(text().trim()) && bytes(text().trim()) <= REACTION_MAX;
  return (
    <>
      <div class="reaction-grid">
        <For each={REACTIONS}>
          {(one) => (
            <button
              type="button"
              aria-label={t().reactWith(one)}
              aria-pressed={props.chosen(one)}
              onClick={() => props.choose(one)}
            >
              {one}
            </button>
          )}
        </For>
      </div>
      <form
        class="reaction-form"
        onSubmit={(event) => {
          event.preventDefault();
          if (isGood()) props.choose(text().trim());
        }}
      >
        <input
          class="input"
          aria-label={t().otherEmoji}
          placeholder={t().otherEmoji}
          autocomplete="off"
          spellcheck={false}
          value={text()}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <button type="submit" class="button small primary" disabled={!isGood()}>
          {t().add}
        </button>
      </form>
    </>
  );
}
