import { type Conversation, fileMessageType } from "im-client";
import { createEffect, createMemo, createSignal, For, type JSX, on, onMount, Show, untrack } from "solid-js";
import { t } from "../i18n/index.ts";
import { EMOJI } from "../lib/emoji.ts";
import { EVERYONE, mentionsIn } from "../lib/mentions.ts";
import { bytes, oneLine } from "../lib/text.ts";
import type { Target } from "../store/talk.ts";
import { preview } from "../store/titles.ts";
import { Choices, completionOf } from "./completion.tsx";
import { usePage, useTalk } from "./context.ts";
import { sentence } from "./dialog.tsx";
import { Icon } from "./icon.tsx";
import { PopupButton } from "./popup.tsx";
import { TrayView } from "./tray.tsx";

/** The longest content that the server takes, in bytes. */
const CONTENT_MAX = 4_096;
/** From here on the remaining bytes are shown. */
const NEAR_END = 400;
const LIST = "completion";

export function Composer(props: {
  conversation: Conversation;
  onSent: () => void;
  onFiles: (files: readonly File[]) => void;
}): JSX.Element {
  const { chat, tell } = usePage();
  const talk = useTalk();
  const { conversation } = props;
  /** The new text of a message that is edited; drafts stay what they are. */
  const [edited, setEdited] = createSignal("");
  const [problem, setProblem] = createSignal("");
  const tray = chat.trays.of(conversation);
  let field!: HTMLTextAreaElement;
  let chooser!: HTMLInputElement;

  const isEdit = (): boolean => talk.target()?.kind === "edit";
  const text = (): string => (isEdit() ? edited() : chat.drafts.get(conversation.id));
  const left = createMemo(() => CONTENT_MAX - bytes(text().trim()));
  const note = (): string => {
    if (problem()) return problem();
    if (tray.isWaiting()) return t().sendsWhenUploaded;
    if (left() < 0) return t().tooLong(CONTENT_MAX - left(), CONTENT_MAX);
    return left() < NEAR_END ? t().bytesLeft(left()) : "";
  };
  const change = (value: string): void => {
    setProblem("");
    if (isEdit()) return void setEdited(value);
    chat.drafts.set(conversation.id, value);
    if (value) conversation.typing();
  };
  const put = (from: number, to: number, inserted: string): void => {
    change(text().slice(0, from) + inserted + text().slice(to));
    field.focus();
    field.setSelectionRange(from + inserted.length, from + inserted.length);
  };
  const completion = completionOf((at, mention) => put(at, field.selectionStart, mention));
  const look = (): void => completion.look(field.value, field.selectionStart);
  const cancel = (): void => {
    talk.setTarget(undefined);
    setProblem("");
    field.focus();
  };

  const mentions = (content: string): string[] => {
    if (!talk.has("mentions") || conversation.kind !== "group") return [];
    const members = talk.members().map(({ user_id }) => user_id);
    // An edited message keeps its mentions, also of former members.
    return mentionsIn(content, [...members, EVERYONE, ...(talk.target()?.message.mentions ?? [])]).filter(
      (id) => id !== chat.me,
    );
  };
  const edit = (content: string, { message }: Target): void => {
    const found = mentions(content);
    const isSame = content === message.content;
    cancel();
    if (isSame) return;
    conversation
      .edit(message.seq, { content, ...(found.length + (message.mentions?.length ?? 0) > 0 && { mentions: found }) })
      .catch((error: unknown) => tell(t().notEdited(sentence(error))));
  };
  const hasFiles = (): boolean => !isEdit() && tray.files().length > 0;
  const send = (): void => {
    const content = text().trim();
    if ((!content && !hasFiles()) || left() < 0) return;
    const target = talk.target();
    if (target?.kind === "edit") return void edit(content, target);
    const attachments = tray.attachments();
    if (!attachments) {
      if (tray.hasFailed()) setProblem(t().filesFailed);
      else tray.wait(send, (name) => tell(t().uploadFailed(name)));
      return;
    }
    const found = mentions(content);
    try {
      const sent = conversation.send({
        ...(content !== "" && { content }),
        ...(attachments.length > 0 && { msgType: fileMessageType(attachments), attachments }),
        ...(target && { replyTo: target.message.seq }),
        ...(found.length > 0 && { mentions: found }),
      });
      // The message itself shows what becomes of it.
      sent.accepted().catch(() => {});
    } catch (error) {
      return void setProblem(sentence(error));
    }
    tray.clear();
    talk.setTarget(undefined);
    change("");
    chat.drafts.sync(conversation.id);
    // Uploads may end while another conversation is shown.
    if (!field.isConnected) return;
    props.onSent();
    field.focus();
  };
  const attach = (files: readonly File[]): void => {
    if (files.length === 0) return;
    setProblem("");
    props.onFiles(files);
    field.focus();
  };
  /** What office programs copy is a text and its picture: the text counts. */
  const paste = (event: ClipboardEvent): void => {
    const data = event.clipboardData;
    if (!data || data.files.length === 0 || data.getData("text/plain") !== "" || !mayAttach()) return;
    event.preventDefault();
    attach([...data.files]);
  };
  const mayAttach = (): boolean => talk.has("files") && !isEdit();
  const label = (): string => {
    if (isEdit()) return t().editMessage;
    return hasFiles() ? t().writeCaption : t().writeMessage;
  };
  const keys = (event: KeyboardEvent): void => {
    // Keys that choose a character in an input method; 229 is what Safari reports after the choice.
    if (event.isComposing || event.keyCode === 229 || completion.key(event)) return;
    if (event.key === "Escape" && talk.target()) cancel();
    else if (event.key === "ArrowUp" && !text() && !talk.target() && talk.editLast()) {
      // The caret is at the end of the text that has come.
    } else if (event.key === "Enter" && !event.shiftKey) {
      send();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  createEffect(
    on(talk.target, (target) => {
      if (!target) return;
      if (target.kind === "edit") {
        setEdited(target.message.content);
        if (target.message.mentions) talk.loadMembers();
      }
      field.focus();
      const end = untrack(text).length;
      field.setSelectionRange(end, end);
    }),
  );
  // A draft of an earlier visit or of another device may have mentions.
  createEffect(() => {
    if (text().includes("@")) talk.loadMembers();
  });
  createEffect(
    on(
      () => tray.hasFailed(),
      () => setProblem(""),
      { defer: true },
    ),
  );
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
      <Show when={talk.target()}>{(target) => <TargetBar target={target()} onCancel={cancel} />}</Show>
      <Show when={!isEdit()}>
        <TrayView tray={tray} onRemoved={() => field.focus()} />
      </Show>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          send();
        }}
      >
        <Show when={mayAttach()}>
          <input
            ref={chooser}
            type="file"
            multiple
            hidden
            onChange={() => {
              attach([...(chooser.files ?? [])]);
              // So that the same file can be chosen again.
              chooser.value = "";
            }}
          />
          <button
            type="button"
            class="icon-button attach"
            aria-label={t().attach}
            title={t().attach}
            onClick={() => chooser.click()}
          >
            <Icon name="attach" />
          </button>
        </Show>
        <div class="composer-field">
          <Choices completion={completion} id={LIST} />
          <textarea
            ref={field}
            rows="1"
            dir={text() ? "auto" : undefined}
            aria-label={label()}
            placeholder={label()}
            aria-describedby="composer-note"
            aria-autocomplete="list"
            aria-controls={completion.choices().length > 0 ? LIST : undefined}
            aria-activedescendant={completion.choices().length > 0 ? `${LIST}-${completion.at()}` : undefined}
            value={text()}
            onInput={(event) => {
              change(event.currentTarget.value);
              look();
            }}
            onKeyDown={keys}
            onPaste={paste}
            onClick={look}
            onBlur={completion.close}
          />
          <PopupButton label={t().emoji} icon="smile" role="group" popupClass="emoji-box">
            {(close) => (
              <For each={EMOJI}>
                {(one) => (
                  <button
                    type="button"
                    onClick={() => {
                      close();
                      put(field.selectionStart, field.selectionEnd, one);
                    }}
                  >
                    {one}
                  </button>
                )}
              </For>
            )}
          </PopupButton>
        </div>
        <Show
          when={!tray.isWaiting() || isEdit()}
          fallback={
            <button
              type="button"
              class="icon-button send"
              aria-label={t().doNotSend}
              title={t().doNotSend}
              onClick={() => tray.stopWaiting()}
            >
              <i class="spinner" />
            </button>
          }
        >
          <button
            type="submit"
            class="icon-button send"
            aria-label={isEdit() ? t().save : t().send}
            title={isEdit() ? t().save : t().send}
            disabled={(!text().trim() && !hasFiles()) || left() < 0}
          >
            <Icon name={isEdit() ? "check" : "send"} />
          </button>
        </Show>
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

/** Says what the text in the field is for. */
function TargetBar(props: { target: Target; onCancel: () => void }): JSX.Element {
  const { chat } = usePage();
  const name = (): string =>
    props.target.message.mine ? t().yourself : chat.directory.user(props.target.message.senderId);
  return (
    <div class="target-bar">
      <Icon name={props.target.kind} />
      <span>
        <b class="ellipsis" role="status">
          {props.target.kind === "edit" ? t().editingMessage : t().replyingTo(name())}
        </b>
        <span class="ellipsis dim">
          <bdi>{oneLine(preview(chat, props.target.message), 160)}</bdi>
        </span>
      </span>
      <button
        type="button"
        class="icon-button"
        aria-label={t().cancel}
        title={t().cancel}
        onClick={() => props.onCancel()}
      >
        <Icon name="close" />
      </button>
    </div>
  );
}
