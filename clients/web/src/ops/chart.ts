/** One chart with its table of values, which is its legend, too. */

import uPlot from "uplot";
import { element, setText, Table } from "./dom.ts";
import type { Format, Unit } from "./format.ts";
import { SPAN_S } from "./history.ts";
import type { Line } from "./series.ts";
import type { Texts } from "./texts.ts";

const HEIGHT = 160;
/** The shortest time that a chart shows, so that the first minute is more than a stroke at its edge. */
const SPAN_MIN_S = 120;

export class Chart {
  readonly node: HTMLElement;
  readonly #plot = element("div", { class: "plot", "aria-hidden": "true" });
  readonly #empty: HTMLElement;
  readonly #table: Table;
  #uplot: uPlot | undefined;
  #shown = "";

  constructor(
    title: string,
    note: string,
    private readonly unit: Unit,
    private readonly format: Format,
    texts: Texts,
    private readonly name: (series: string) => string,
  ) {
    this.#empty = element("p", { class: "empty" }, texts.nothing);
    this.#table = new Table(title, [texts.line, texts.now, texts.max], true);
    const caption = element("figcaption", {}, element("h2", {}, title));
    if (note !== "") caption.append(element("p", { class: "note" }, note));
    this.node = element("figure", { class: "card chart" }, caption, this.#plot, this.#empty, this.#table.node);
  }

  show(times: number[], lines: Line[]): void {
    this.#empty.hidden = lines.length > 0;
    this.#plot.hidden = this.#table.node.hidden = lines.length === 0;
    this.#table.set(
      lines.map(({ series, now, max }, n): [string, string][] => [
        [this.name(series), `line color-${n}`],
        [this.format.value(now, this.unit), "number"],
        [this.format.value(max, this.unit), "number"],
      ]),
    );
    const width = this.#plot.clientWidth;
    if (lines.length === 0 || width === 0) return;
    const data: uPlot.AlignedData = [times, ...lines.map((line) => line.values)];
    const shown = lines.map((line) => line.series).join("\n");
    if (!this.#uplot || shown !== this.#shown) {
      this.#uplot?.destroy();
      this.#uplot = new uPlot(this.#options(lines, width), data, this.#plot);
      this.#shown = shown;
      return;
    }
    if (this.#uplot.width !== width) this.#uplot.setSize({ width, height: HEIGHT });
    this.#uplot.setData(data);
  }

  /** Colors are taken from the style sheet again. */
  restyle(): void {
    this.#uplot?.destroy();
    this.#uplot = undefined;
  }

  #options(lines: Line[], width: number): uPlot.Options {
    const [text, grid] = [this.#color("axis-text"), this.#color("axis-grid")];
    const axis = { stroke: text, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 } };
    const font = "11px system-ui, sans-serif";
    return {
      width,
      height: HEIGHT,
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, sync: { key: "ops" }, points: { size: 6 } },
      scales: {
        x: { time: true, range: (_, min, max) => [max - Math.min(SPAN_S, Math.max(SPAN_MIN_S, max - min)), max] },
        y: { range: (_, __, max) => [0, top(max, this.unit)] },
      },
      axes: [
        { ...axis, font, size: 28, space: 70, values: (_, splits) => splits.map((at) => this.format.time(at)) },
        {
          ...axis,
          font,
          size: 62,
          space: 32,
          values: (_, splits) => splits.map((at) => this.format.tick(at, this.unit)),
        },
      ],
      series: [
        {},
        ...lines.map((line, n) => ({
          label: this.name(line.series),
          stroke: this.#color(`color-${n}`),
          width: 1.75,
          points: { show: false },
          spanGaps: false,
        })),
      ],
    };
  }

  /** What the style sheet gives to elements of this class. */
  #color(name: string): string {
    const probe = element("i", { class: name });
    this.node.append(probe);
    const color = getComputedStyle(probe).color;
    probe.remove();
    return color;
  }
}

/** The upper end of the axis: a little above the largest value, and never so small that noise looks large. */
function top(max: number | null, unit: Unit): number {
  const least = unit === "seconds" ? 0.005 : 5;
  return Math.max((max ?? 0) * 1.1, least);
}

/** A tile with one or two present values. */
export class Tile {
  readonly node: HTMLElement;
  readonly #value = element("dd");

  constructor(title: string, isPair: boolean) {
    this.node = element("div", { class: isPair ? "tile pair" : "tile" }, element("dt", {}, title), this.#value);
  }

  show(text: string, isBad = false): void {
    setText(this.#value, text);
    this.node.classList.toggle("bad", isBad);
  }
}
