/** Gives a user or a group another picture, or none. */

import { createSignal, type JSX, Show } from "solid-js";
import { t } from "../i18n/index.ts";
import { squareOf } from "../lib/square.ts";
import { usePage } from "./context.ts";
import { Problem, sentence } from "./dialog.tsx";

export function AvatarEditor(props: { kind: "private" | "group"; id: string }): JSX.Element {
  const { chat } = usePage();
  const [problem, setProblem] = createSignal("");
  const [busy, setBusy] = createSignal(false);
  let input!: HTMLInputElement;
  const has = (): boolean => chat.directory.avatar(props.kind, props.id) !== undefined;
  const set = async (picture: Blob | null): Promise<void> => {
    const { files } = chat.files;
    if (props.kind === "group") {
      await files.setAvatar(picture, props.id, { name: "avatar" });
      await chat.directory.loadGroup(props.id);
    } else {
      const avatar = await files.setAvatar(picture, undefined, { name: "avatar" });
      chat.directory.setUser(props.id, { avatar });
    }
  };
  const change = async (file: File | null): Promise<void> => {
    setBusy(true);
    setProblem("");
    try {
      await set(file && (await readable(file)));
    } catch (error) {
      setProblem(sentence(error));
    }
    setBusy(false);
    input.value = "";
  };
  return (
    <Show when={chat.features().has("files") && chat.features().has("profiles")}>
      <div class="avatar-editor">
        <input
          ref={input}
          type="file"
          hidden
          accept="image/png,image/jpeg,image/gif,image/webp"
          onChange={(event) => {
            const [file] = event.currentTarget.files ?? [];
            if (file) void change(file);
          }}
        />
        <button type="button" class="button small" disabled={busy()} onClick={() => input.click()}>
          {has() ? t().changeAvatar : t().addAvatar}
        </button>
        <Show when={has()}>
          <button type="button" class="button small" disabled={busy()} onClick={() => void change(null)}>
            {t().removeAvatar}
          </button>
        </Show>
        <Show when={busy()}>
          <i class="spinner" role="status" aria-label={t().loading} />
        </Show>
        <Problem text={problem()} />
      </div>
    </Show>
  );
}

async function readable(file: File): Promise<Blob> {
  try {
    return await squareOf(file);
  } catch {
    throw new Error(t().noPicture);
  }
}
