import { createMemo, type JSX, Show, useContext } from "solid-js";
import { hashed, initials } from "../lib/text.ts";
import { PageContext } from "./context.ts";

/** The picture of a user or group; without one, initials on a color that belongs to the id. */
export function Avatar(props: {
  id: string;
  name: string;
  kind?: "private" | "group";
  size?: "small" | "large";
  online?: boolean;
}): JSX.Element {
  // Before the login there are no pictures.
  const page = useContext(PageContext);
  // On servers without files, an avatar is whatever an application has put there.
  const hasFiles = (): boolean => page?.chat.features().has("files") === true;
  const file = createMemo(() =>
    hasFiles() ? page?.chat.directory.avatar(props.kind ?? "private", props.id) : undefined,
  );
  const url = createMemo(() => {
    const id = file();
    return id === undefined ? undefined : page?.chat.files.url(id, "thumb");
  });
  return (
    <span
      class={`avatar c${hashed(props.id, 10)} ${props.size ?? ""}`}
      classList={{ group: props.kind === "group" }}
      aria-hidden="true"
    >
      <span>{initials(props.name)}</span>
      <Show when={url()}>
        {(address) => <img src={address()} alt="" onError={() => page?.chat.files.failed(file() ?? "", "thumb")} />}
      </Show>
      <Show when={props.online}>
        <i class="dot" />
      </Show>
    </span>
  );
}
