import { type JSX, Show } from "solid-js";
import { hashed, initials } from "../lib/text.ts";

/** Initials on a color that belongs to the id. */
export function Avatar(props: {
  id: string;
  name: string;
  kind?: "private" | "group";
  size?: "small" | "large";
  online?: boolean;
}): JSX.Element {
  return (
    <span
      class={`avatar c${hashed(props.id, 10)} ${props.size ?? ""}`}
      classList={{ group: props.kind === "group" }}
      aria-hidden="true"
    >
      <span>{initials(props.name)}</span>
      <Show when={props.online}>
        <i class="dot" />
      </Show>
    </span>
  );
}
