/** The whole conversation takes files that are dropped on it. */

import { createSignal, type JSX, onCleanup, onMount, Show } from "solid-js";
import { t } from "../i18n/index.ts";
import { Icon } from "./icon.tsx";

const hasFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") === true;

/** Stands inside of the element that is the area. */
export function DropArea(props: { onFiles: (files: File[]) => void }): JSX.Element {
  const [isOver, setOver] = createSignal(false);
  let hint!: HTMLDivElement;
  onMount(() => {
    const area = hint.parentElement as HTMLElement;
    const over = (event: DragEvent): void => {
      if (!hasFiles(event) || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      if (event.dataTransfer) event.dataTransfer.dropEffect = "copy";
      setOver(true);
    };
    const leave = (event: DragEvent): void => {
      // Also told when the pointer moves from one element of the area to another.
      if (!area.contains(event.relatedTarget as Node | null)) setOver(false);
    };
    const drop = (event: DragEvent): void => {
      setOver(false);
      if (!hasFiles(event) || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      props.onFiles([...(event.dataTransfer?.files ?? [])]);
    };
    // Elsewhere the browser would leave the page and show the file.
    const elsewhere = (event: DragEvent): void => {
      if (!hasFiles(event) || event.defaultPrevented) return;
      event.preventDefault();
      if (event.dataTransfer) event.dataTransfer.dropEffect = "none";
    };
    area.addEventListener("dragenter", over);
    area.addEventListener("dragover", over);
    area.addEventListener("dragleave", leave);
    area.addEventListener("drop", drop);
    window.addEventListener("dragover", elsewhere);
    window.addEventListener("drop", elsewhere);
    onCleanup(() => {
      area.removeEventListener("dragenter", over);
      area.removeEventListener("dragover", over);
      area.removeEventListener("dragleave", leave);
      area.removeEventListener("drop", drop);
      window.removeEventListener("dragover", elsewhere);
      window.removeEventListener("drop", elsewhere);
    });
  });
  return (
    <div class="drop-area" classList={{ "is-over": isOver() }} ref={hint} aria-hidden={!isOver()}>
      <Show when={isOver()}>
        <p>
          <Icon name="attach" />
          {t().dropFiles}
        </p>
      </Show>
    </div>
  );
}
