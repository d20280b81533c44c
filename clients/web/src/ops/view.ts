/** The view: tiles, charts and tables, in one language. */

import { Chart, Tile } from "./chart.ts";
import { element, setText, Table } from "./dom.ts";
import { Format, type Unit } from "./format.ts";
import { type History, type ProcessRow, shortId } from "./history.ts";
import { lines } from "./series.ts";
import { type Language, languages, type Texts, texts } from "./texts.ts";

type ChartId = keyof Texts["chart"];
type TileId = keyof Texts["tile"];

/** The charts in their order, with the order of their lines where it is no alphabetical one. */
const CHARTS: { id: ChartId; unit: Unit; order?: string[]; zero?: boolean }[] = [
  { id: "messages", unit: "count", order: ["accepted", "committed"] },
  { id: "ack", unit: "seconds" },
  { id: "push", unit: "seconds" },
  { id: "backlog", unit: "count" },
  { id: "connections", unit: "count" },
  { id: "pushes", unit: "count", order: ["pushed", "dropped", "resyncs"] },
  { id: "refused", unit: "count", zero: true },
  { id: "gaps", unit: "count", order: ["held", "voided", "renumbered"] },
  { id: "commit", unit: "seconds" },
  { id: "dead", unit: "count" },
];
const TILES: TileId[] = ["accepted", "committed", "ack", "push", "connections", "backlog", "held", "refused", "dead"];

/** What the page says about the connection to the gateway. */
export interface Trouble {
  isAlert: boolean;
  text: string;
}

export interface Actions {
  pause(): void;
  signOut(): void;
  choose(language: Language): void;
}

export class View {
  readonly node: HTMLElement;
  readonly #texts: Texts;
  readonly #format: Format;
  readonly #charts: [(typeof CHARTS)[number], Chart][];
  readonly #tiles: Map<TileId, Tile>;
  readonly #processes: Table;
  readonly #shards: Table;
  readonly #troubles = element("div", { class: "troubles", role: "status" });
  readonly #alert = element("div", { class: "troubles", role: "alert" });
  readonly #state = element("span", { class: "state" });
  readonly #pause: HTMLButtonElement;

  constructor(language: Language, actions: Actions) {
    const t = texts[language];
    this.#texts = t;
    this.#format = new Format(languages.find(({ id }) => id === language)?.tag ?? "en");
    this.#pause = button(t.pause, actions.pause);
    const head = element(
      "header",
      { class: "head" },
      element("h1", {}, t.title),
      this.#state,
      element("span", { class: "space" }),
      this.#pause,
      languageChoice(language, actions.choose),
      button(t.signOut, actions.signOut),
    );
    this.#tiles = new Map(TILES.map((id) => [id, new Tile(t.tile[id], id === "ack" || id === "push")]));
    const tiles = element("dl", { class: "tiles", "aria-label": t.summary });
    tiles.append(...[...this.#tiles.values()].map((tile) => tile.node));
    this.#charts = CHARTS.map((chart) => [chart, this.#chart(chart)]);
    const charts = element("section", { class: "charts", "aria-label": t.charts });
    charts.append(...this.#charts.map(([, chart]) => chart.node));
    this.#processes = new Table(t.processes, [
      t.role,
      t.id,
      t.address,
      t.version,
      t.state,
      t.connections,
      t.shardCount,
      t.uptime,
    ]);
    this.#shards = new Table(t.shards, [t.shard, t.owner, t.readyBodies, t.unackedBodies, t.heldMessages]);
    const main = element("main", {}, this.#alert, this.#troubles, tiles, charts);
    main.append(scrolling(t.processes, this.#processes), scrolling(t.shards, this.#shards));
    this.node = element("div", { class: "view" }, head, main);
  }

  /** Shows the last report. */
  show(history: History, trouble: Trouble | undefined, isPaused: boolean): void {
    setText(this.#pause, isPaused ? this.#texts.resume : this.#texts.pause);
    setText(this.#state, isPaused ? this.#texts.paused : this.#texts.live);
    this.#state.classList.toggle("on", !isPaused && trouble?.isAlert !== true);
    setLines(this.#alert, trouble?.isAlert ? [trouble.text] : []);
    const others = history.points.length > 0 ? this.#findings(history) : [];
    setLines(this.#troubles, trouble && !trouble.isAlert ? [trouble.text, ...others] : others);
    const times = history.points.map((point) => point.timeS);
    for (const [{ id, order, zero }, chart] of this.#charts) chart.show(times, lines(history, id, order, zero));
    this.#showTiles(history);
    this.#showTables(history);
  }

  restyle(): void {
    for (const [, chart] of this.#charts) chart.restyle();
  }

  #chart({ id, unit }: (typeof CHARTS)[number]): Chart {
    const t = this.#texts;
    const name = (series: string): string => t.series[series] ?? (id === "backlog" ? t.shardName(series) : series);
    return new Chart(t.chart[id], t.note[id], unit, this.#format, t, name);
  }

  #findings(history: History): string[] {
    const t = this.#texts;
    const { processes, shards } = history;
    const found: string[] = [];
    const broken = processes.filter((process) => process.error !== undefined).length;
    if (broken > 0) found.push(t.broken(broken));
    const unready = processes.filter((process) => process.isReady === false).length;
    if (unready > 0) found.push(t.notReady(unready));
    if (!processes.some((process) => process.role === "worker")) found.push(t.noWorkers);
    const orphans = shards.filter(({ owners }) => owners.length === 0).map(({ shard }) => shard);
    // A worker whose metrics are missing may be their owner.
    if (orphans.length > 0 && broken === 0) found.push(t.orphans(orphans.join(", ")));
    return found;
  }

  #showTiles(history: History): void {
    const count = (value: number | undefined): string => this.#format.value(value, "count");
    const pair = (chart: string): string =>
      ["p50", "p99"].map((name) => this.#format.value(history.now(chart, name), "seconds")).join(" / ");
    const [refused, dead] = [history.total("refused"), history.now("dead", "letters")];
    const values: Record<TileId, string> = {
      accepted: count(history.now("messages", "accepted")),
      committed: count(history.now("messages", "committed")),
      ack: pair("ack"),
      push: pair("push"),
      connections: count(history.total("connections")),
      backlog: count(history.total("backlog")),
      held: count(history.now("gaps", "held")),
      refused: count(refused ?? (history.points.length > 1 ? 0 : undefined)),
      dead: count(dead),
    };
    for (const [id, tile] of this.#tiles) {
      tile.show(values[id], (id === "refused" && (refused ?? 0) > 0) || (id === "dead" && (dead ?? 0) > 0));
    }
  }

  #showTables(history: History): void {
    const { nobody } = this.#texts;
    const count = (value: number | undefined): [string, string] => [this.#format.value(value, "count"), "number"];
    this.#processes.set(
      history.processes.map((process) => [
        this.#texts.roles[process.role] ?? process.role,
        [process.id, "code"],
        [process.address ?? "–", "code"],
        process.version ?? "–",
        this.#stateOf(process),
        count(process.connections),
        count(process.shards),
        [this.#format.duration(process.uptimeS), "number"],
      ]),
    );
    this.#shards.set(
      history.shards.map(({ shard, owners, ready, unacked, held }) => [
        String(shard),
        owners.length > 0 ? [owners.map(shortId).join(", "), "code"] : [nobody, "bad"],
        count(ready),
        count(unacked),
        count(held),
      ]),
    );
  }

  #stateOf({ error, isReady }: ProcessRow): [string, string] {
    if (error !== undefined) return [error, "bad"];
    if (isReady === undefined) return ["–", ""];
    return isReady ? [this.#texts.ready, "good"] : [this.#texts.unready, "bad"];
  }
}

/** A choice of languages, each in its own name. */
export function languageChoice(now: Language, choose: (language: Language) => void): HTMLElement {
  const select = element("select", { "aria-label": texts[now].language });
  for (const { id, name, tag } of languages) {
    select.append(element("option", { value: id, lang: tag, ...(id === now ? { selected: "" } : {}) }, name));
  }
  select.addEventListener("change", () => choose(select.value === "zh" ? "zh" : "en"));
  return select;
}

function button(text: string, action: () => void): HTMLButtonElement {
  const made = element("button", { type: "button", class: "button" }, text);
  made.addEventListener("click", action);
  return made;
}

/** A wide table scrolls by itself, also with the keyboard. */
function scrolling(label: string, table: Table): HTMLElement {
  return element("section", { class: "card wide", role: "region", "aria-label": label, tabindex: "0" }, table.node);
}

function setLines(of: HTMLElement, all: string[]): void {
  of.hidden = all.length === 0;
  if ([...of.children].map((line) => line.textContent).join("\n") === all.join("\n")) return;
  of.replaceChildren(...all.map((text) => element("p", {}, text)));
}
