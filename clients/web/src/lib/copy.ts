/** Puts a text into the clipboard; over plain http, where browsers have no clipboard for pages, by the old command. */
export async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "hidden-text";
    document.body.append(field);
    const before = document.activeElement as HTMLElement | null;
    field.select();
    document.execCommand("copy");
    field.remove();
    before?.focus();
  }
}
