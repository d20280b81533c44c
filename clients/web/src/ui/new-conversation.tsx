import { createSignal, type JSX, Show } from "solid-js";
import { t } from "../i18n/index.ts";
import { isUserId } from "../store/session.ts";
import { usePage } from "./context.ts";
import { Dialog, Problem, sentence } from "./dialog.tsx";
import { userIds } from "./group-dialogs.tsx";

export function NewConversation(props: { onClose: () => void }): JSX.Element {
  const { chat, open } = usePage();
  const [isGroup, setGroup] = createSignal(false);
  const [peer, setPeer] = createSignal("");
  const [name, setName] = createSignal("");
  const [members, setMembers] = createSignal("");
  const [problem, setProblem] = createSignal("");
  const [busy, setBusy] = createSignal(false);
  const start = (event: SubmitEvent): void => {
    event.preventDefault();
    const id = peer().trim();
    if (!isUserId(id)) return void setProblem(t().badUserId);
    open(chat.client.direct(id));
    props.onClose();
  };
  const create = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const { ids, wrong } = userIds(members());
    if (wrong !== undefined) return void setProblem(`${wrong}: ${t().badUserId}`);
    setBusy(true);
    setProblem("");
    try {
      const others = ids.filter((id) => id !== chat.me);
      const { conversation_id } = await chat.client.groups.create({ name: name().trim(), members: others });
      open(chat.client.conversation(conversation_id));
      props.onClose();
    } catch (error) {
      setProblem(sentence(error));
    }
    setBusy(false);
  };
  return (
    <Dialog title={t().newConversation} onClose={props.onClose}>
      <div class="segmented" role="group" aria-label={t().newConversation}>
        <button type="button" aria-pressed={!isGroup()} onClick={() => setGroup(false)}>
          {t().newChat}
        </button>
        <button type="button" aria-pressed={isGroup()} onClick={() => setGroup(true)}>
          {t().newGroup}
        </button>
      </div>
      <Show
        when={isGroup()}
        fallback={
          <form class="dialog-form" onSubmit={start}>
            <label class="field">
              <span>{t().chatWith}</span>
              <input
                class="input"
                autofocus
                autocapitalize="none"
                spellcheck={false}
                value={peer()}
                onInput={(event) => setPeer(event.currentTarget.value)}
              />
            </label>
            <Problem text={problem()} />
            <button type="submit" class="button primary wide" disabled={!peer().trim()}>
              {t().startChat}
            </button>
          </form>
        }
      >
        <form class="dialog-form" onSubmit={(event) => void create(event)}>
          <label class="field">
            <span>{t().groupName}</span>
            <input
              class="input"
              autofocus
              maxlength={64}
              value={name()}
              onInput={(event) => setName(event.currentTarget.value)}
            />
          </label>
          <label class="field">
            <span>{t().groupMembers}</span>
            <input
              class="input"
              autocapitalize="none"
              spellcheck={false}
              value={members()}
              onInput={(event) => setMembers(event.currentTarget.value)}
            />
          </label>
          <Problem text={problem()} />
          <button type="submit" class="button primary wide" disabled={busy() || !name().trim()}>
            {t().createGroup}
          </button>
        </form>
      </Show>
    </Dialog>
  );
}
