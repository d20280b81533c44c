/** Dialogs and menus. The browser keeps the focus inside of a dialog, closes it with Escape, and gives the focus back. */

import { createSignal, type JSX, onCleanup, onMount, Show } from "solid-js";
import { t } from "../i18n/index.ts";
import { Icon, type IconName } from "./icon.tsx";

export function Dialog(props: {
  title: string;
  onClose: () => void;
  children: JSX.Element;
  locked?: boolean;
}): JSX.Element {
  let element!: HTMLDialogElement;
  onMount(() => {
    if (!element.open) element.showModal();
  });
  const outside = (event: MouseEvent): void => {
    if (event.target === element && !props.locked) element.close();
  };
  return (
    <dialog
      ref={element}
      aria-label={props.title}
      onClose={() => props.onClose()}
      onCancel={(event) => props.locked && event.preventDefault()}
      onMouseDown={outside}
    >
      <div class="dialog-head">
        <h2>
          <bdi>{props.title}</bdi>
        </h2>
        <Show when={!props.locked}>
          <button type="button" class="icon-button" aria-label={t().close} onClick={() => element.close()}>
            <Icon name="close" />
          </button>
        </Show>
      </div>
      <div class="dialog-body">{props.children}</div>
    </dialog>
  );
}

/** A question with two answers. */
export interface Question {
  title: string;
  text?: string;
  action: string;
  danger?: boolean;
  /** What happens with a yes; the sentence of an error is shown. */
  run: () => Promise<unknown>;
}

export function Confirm(props: { question: Question; onClose: () => void }): JSX.Element {
  const [problem, setProblem] = createSignal("");
  const [busy, setBusy] = createSignal(false);
  const run = async (): Promise<void> => {
    setBusy(true);
    setProblem("");
    try {
      await props.question.run();
      props.onClose();
    } catch (error) {
      setProblem(sentence(error));
    }
    setBusy(false);
  };
  return (
    <Dialog title={props.question.title} onClose={props.onClose}>
      <Show when={props.question.text}>
        <p>{props.question.text}</p>
      </Show>
      <Problem text={problem()} />
      <div class="dialog-actions">
        <button type="button" class="button" onClick={() => props.onClose()}>
          {t().cancel}
        </button>
        <button
          type="button"
          class="button"
          classList={{ danger: props.question.danger === true, primary: props.question.danger !== true }}
          disabled={busy()}
          onClick={() => void run()}
        >
          {props.question.action}
        </button>
      </div>
    </Dialog>
  );
}

/** What went wrong, in the words of the server. */
export function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function Problem(props: { text: string }): JSX.Element {
  return (
    <div role="alert">
      <Show when={props.text}>
        <p class="error-text">{props.text}</p>
      </Show>
    </div>
  );
}

export interface MenuItem {
  text: string;
  icon: IconName;
  danger?: boolean;
  run: () => void;
}

/** A button with a list of actions. */
export function Menu(props: { label: string; items: MenuItem[]; small?: boolean }): JSX.Element {
  const [open, setOpen] = createSignal(false);
  let anchor!: HTMLSpanElement;
  let button!: HTMLButtonElement;
  const outside = (event: Event): void => {
    if (!anchor.contains(event.target as Node)) setOpen(false);
  };
  document.addEventListener("pointerdown", outside);
  onCleanup(() => document.removeEventListener("pointerdown", outside));
  const keys = (event: KeyboardEvent): void => {
    if (!open()) return;
    const items = [...anchor.querySelectorAll<HTMLElement>("[role=menuitem]")];
    const at = items.indexOf(document.activeElement as HTMLElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) items.at((at + step + items.length) % items.length)?.focus();
    else if (event.key === "Escape") {
      setOpen(false);
      button.focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const toggle = (): void => {
    setOpen(!open());
    if (open()) queueMicrotask(() => anchor.querySelector<HTMLElement>("[role=menuitem]")?.focus());
  };
  return (
    <span class="menu-anchor" ref={anchor} onKeyDown={keys}>
      <button
        ref={button}
        type="button"
        class="icon-button"
        classList={{ small: props.small === true }}
        aria-label={props.label}
        aria-haspopup="menu"
        aria-expanded={open()}
        onClick={toggle}
      >
        <Icon name="more" />
      </button>
      <Show when={open()}>
        <div class="menu" role="menu" aria-label={props.label}>
          {props.items.map((item) => (
            <button
              type="button"
              role="menuitem"
              tabindex="-1"
              classList={{ "danger-text": item.danger === true }}
              onClick={() => {
                setOpen(false);
                item.run();
              }}
            >
              <Icon name={item.icon} />
              {item.text}
            </button>
          ))}
        </div>
      </Show>
    </span>
  );
}
