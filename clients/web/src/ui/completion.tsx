/** Members of a group that a mention may name, while it is typed. */

import { createMemo, createSignal, For, type JSX, Show } from "solid-js";
import { t } from "../i18n/index.ts";
import { ALL, EVERYONE, typedMention } from "../lib/mentions.ts";
import { Avatar } from "./avatar.tsx";
import { usePage, useTalk } from "./context.ts";
import { Icon } from "./icon.tsx";

const SHOWN_MAX = 6;
/** In larger groups only owner and admins mention everyone. */
const EVERYONE_MAX = 100;

export interface Choice {
  readonly id: string;
  readonly name: string;
}

export interface Completion {
  choices(): readonly Choice[];
  /** Of the choice that Enter takes. */
  at(): number;
  /** Looks at what is typed before `caret`. */
  look(text: string, caret: number): void;
  point(n: number): void;
  close(): void;
  /** Takes a key that is for the list. Returns true if it was. */
  key(event: KeyboardEvent): boolean;
  choose(choice: Choice): void;
}

/** `insert` puts a mention into the text, in place of what begins at `at`. */
export function completionOf(insert: (at: number, mention: string) => void): Completion {
  const { chat } = usePage();
  const talk = useTalk();
  const [typed, setTyped] = createSignal<{ at: number; word: string } | undefined>(undefined);
  const [at, setAt] = createSignal(0);
  const { conversation } = talk;
  const choices = createMemo((): Choice[] => {
    const now = typed();
    if (!now || conversation.kind !== "group" || !talk.has("mentions")) return [];
    const word = now.word.toLocaleLowerCase();
    const fits = ({ id, name }: Choice): boolean =>
      id.toLocaleLowerCase().includes(word) || name.toLocaleLowerCase().includes(word);
    const members = talk.members().map(({ user_id: id }) => ({ id, name: chat.directory.user(id) }));
    const found = members.filter((one) => one.id !== chat.me && fits(one));
    // What begins with the word comes first.
    found.sort(
      (a, b) => Number(b.id.toLocaleLowerCase().startsWith(word)) - Number(a.id.toLocaleLowerCase().startsWith(word)),
    );
    const size = chat.directory.group(conversation.id)?.members ?? members.length;
    const all = { id: EVERYONE, name: t().everyone };
    const mayAll = (talk.isAdmin || size <= EVERYONE_MAX) && (ALL.startsWith(word) || all.name.includes(word));
    return [...found.slice(0, SHOWN_MAX), ...(mayAll ? [all] : [])];
  });
  const close = (): void => void setTyped(undefined);
  const choose = ({ id }: Choice): void => {
    const now = typed();
    close();
    if (now) insert(now.at, `@${id === EVERYONE ? ALL : id} `);
  };
  return {
    choices,
    at: () => Math.min(at(), choices().length - 1),
    look(text, caret) {
      const found = typedMention(text, caret);
      if (found) talk.loadMembers();
      setTyped(found);
      setAt(0);
    },
    point: setAt,
    close,
    key(event) {
      const all = choices();
      if (all.length === 0) return false;
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const choice = all[Math.min(at(), all.length - 1)];
      if (step !== undefined) setAt((Math.min(at(), all.length - 1) + step + all.length) % all.length);
      else if (event.key === "Escape") close();
      else if ((event.key === "Enter" || event.key === "Tab") && !event.shiftKey && choice) choose(choice);
      else return false;
      event.preventDefault();
      event.stopPropagation();
      return true;
    },
    choose,
  };
}

export function Choices(props: { completion: Completion; id: string }): JSX.Element {
  return (
    <Show when={props.completion.choices().length > 0}>
      <div class="completion" role="listbox" aria-label={t().mention} id={props.id}>
        <For each={props.completion.choices()}>
          {(choice, n) => (
            // biome-ignore lint/a11y: the keys of the list are those of the text field
            <div
              role="option"
              id={`${props.id}-${n()}`}
              aria-selected={n() === props.completion.at()}
              onPointerMove={() => props.completion.point(n())}
              onPointerDown={(event) => {
                // The text field keeps the focus.
                event.preventDefault();
                props.completion.choose(choice);
              }}
            >
              <Show when={choice.id !== EVERYONE} fallback={<Icon name="group" />}>
                <Avatar id={choice.id} name={choice.name} size="small" />
              </Show>
              <bdi class="ellipsis">{choice.name}</bdi>
              <Show when={choice.name !== choice.id}>
                <small class="dim ellipsis">{choice.id === EVERYONE ? ALL : choice.id}</small>
              </Show>
            </div>
          )}
        </For>
      </div>
    </Show>
  );
}
