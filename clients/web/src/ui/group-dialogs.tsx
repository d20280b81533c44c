/** Dialogs about a group: its members and its name. */

import { createSignal, type JSX } from "solid-js";
import { t } from "../i18n/index.ts";
import { isUserId } from "../store/session.ts";
import { usePage } from "./context.ts";
import { Dialog, Problem, sentence } from "./dialog.tsx";

/** The user ids in a text, and the first word that is not a user id. */
export function userIds(text: string): { ids: string[]; wrong: string | undefined } {
  const ids = [...new Set(text.split(/[\s,;，；、]+/).filter((id) => id !== ""))];
  return { ids, wrong: ids.find((id) => !isUserId(id)) };
}

/** Adds members to a group. */
export function AddMembers(props: { id: string; onClose: () => void; onDone: () => void }): JSX.Element {
  const { chat } = usePage();
  const [text, setText] = createSignal("");
  const [problem, setProblem] = createSignal("");
  const [note, setNote] = createSignal("");
  const [busy, setBusy] = createSignal(false);
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const { ids, wrong } = userIds(text());
    if (wrong !== undefined) return void setProblem(`${wrong}: ${t().badUserId}`);
    setBusy(true);
    setProblem("");
    try {
      const { invited } = await chat.client.groups.add(props.id, ids);
      props.onDone();
      if (!invited || invited.length === 0) return props.onClose();
      setNote(t().addedInvited(invited.join(", ")));
      setText("");
    } catch (error) {
      setProblem(sentence(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <Dialog title={t().addMembers} onClose={props.onClose}>
      <form class="dialog-form" onSubmit={(event) => void submit(event)}>
        <label class="field">
          <span>{t().groupMembers}</span>
          <input
            class="input"
            autocapitalize="none"
            spellcheck={false}
            required
            value={text()}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <Problem text={problem()} />
        <p class="hint" role="status">
          {note()}
        </p>
        <button type="submit" class="button primary wide" disabled={busy() || !text().trim()}>
          {t().add}
        </button>
      </form>
    </Dialog>
  );
}

/** Gives a group another name. */
export function Rename(props: { id: string; name: string; onClose: () => void }): JSX.Element {
  const { chat } = usePage();
  const [name, setName] = createSignal(props.name);
  const [problem, setProblem] = createSignal("");
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    try {
      await chat.client.groups.update(props.id, { name: name().trim() });
      await chat.directory.loadGroup(props.id);
      props.onClose();
    } catch (error) {
      setProblem(sentence(error));
    }
  };
  return (
    <Dialog title={t().renameGroup} onClose={props.onClose}>
      <form class="dialog-form" onSubmit={(event) => void submit(event)}>
        <label class="field">
          <span>{t().groupName}</span>
          <input
            class="input"
            required
            maxlength={64}
            value={name()}
            onInput={(event) => setName(event.currentTarget.value)}
          />
        </label>
        <Problem text={problem()} />
        <button type="submit" class="button primary wide" disabled={!name().trim()}>
          {t().save}
        </button>
      </form>
    </Dialog>
  );
}
