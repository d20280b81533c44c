/** Elements without a library. Texts are always set as text, never as HTML. */

type Child = Node | string;

export function element<K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Record<string, string> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Sets a text if it differs, so that a selection and a screen reader are left alone otherwise. */
export function setText(of: Element, text: string): void {
  if (of.textContent !== text) of.textContent = text;
}

/** A table whose rows change: cells that stay the same are not touched. */
export class Table {
  readonly node: HTMLTableElement;
  readonly #body = element("tbody");

  constructor(caption: string, heads: string[], isCaptionHidden = false) {
    const row = element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)));
    const title = element("caption", isCaptionHidden ? { class: "hidden-text" } : {}, caption);
    this.node = element("table", {}, title, element("thead", {}, row), this.#body);
  }

  /** Each row begins with its head. A cell is a text, or a text with a class. */
  set(rows: (string | [string, string])[][]): void {
    while (this.#body.rows.length > rows.length) this.#body.deleteRow(-1);
    rows.forEach((cells, n) => {
      const row = this.#body.rows[n] ?? this.#body.insertRow();
      cells.forEach((cell, at) => {
        const [text, name] = typeof cell === "string" ? [cell, ""] : cell;
        const node = row.cells[at] ?? row.appendChild(at === 0 ? element("th", { scope: "row" }) : element("td"));
        if (node.className !== name) node.className = name;
        setText(node, text);
      });
    });
  }
}

/** Storage may be switched off or full: the page works without it. */
export function stored(storage: () => Storage, key: string): string | null {
  try {
    return storage().getItem(key);
  } catch {
    return null;
  }
}

export function store(storage: () => Storage, key: string, value: string | null): void {
  try {
    if (value === null) storage().removeItem(key);
    else storage().setItem(key, value);
  } catch {
    // The key has to be typed again after a reload.
  }
}
