/** Dialogs. The browser keeps the focus inside of a dialog, closes it with Escape, and gives the focus back. */

import { createSignal, type JSX, onMount, Show } from "solid-js";
import { t } from "../i18n/index.ts";
import { Icon } from "./icon.tsx";

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
