/** Numbers, durations and times in the reader's language. */

export type Unit = "count" | "seconds";

export class Format {
  readonly #count: Intl.NumberFormat;
  readonly #small: Intl.NumberFormat;
  readonly #compact: Intl.NumberFormat;
  readonly #time: Intl.DateTimeFormat;

  constructor(readonly tag: string) {
    this.#count = new Intl.NumberFormat(tag, { maximumFractionDigits: 0 });
    this.#small = new Intl.NumberFormat(tag, { maximumSignificantDigits: 3 });
    this.#compact = new Intl.NumberFormat(tag, { notation: "compact", maximumSignificantDigits: 3 });
    this.#time = new Intl.DateTimeFormat(tag, {
      hour: "2-digit",
      minute: "2-digit",
      second: "2-digit",
      hourCycle: "h23",
    });
  }

  /** A value of a table or a tile. */
  value(value: number | undefined, unit: Unit): string {
    if (value === undefined) return "–";
    if (unit === "seconds") return this.seconds(value);
    return value >= 100 ? this.#count.format(value) : this.#small.format(value);
  }

  /** A value beside an axis, where there is little room. */
  tick(value: number, unit: Unit): string {
    return unit === "seconds" ? this.seconds(value) : this.#compact.format(value);
  }

  seconds(value: number): string {
    return value < 1 ? `${this.#small.format(value * 1000)} ms` : `${this.#small.format(value)} s`;
  }

  time(timeS: number): string {
    return this.#time.format(timeS * 1000);
  }

  /** A long duration in its two largest units. */
  duration(seconds: number | undefined): string {
    if (seconds === undefined) return "–";
    const units: [string, number][] = [
      ["day", 86_400],
      ["hour", 3_600],
      ["minute", 60],
      ["second", 1],
    ];
    const first = Math.max(
      0,
      units.findIndex(([, length]) => seconds >= length),
    );
    let rest = Math.floor(seconds);
    const parts = (seconds < 1 ? units.slice(3) : units.slice(first, first + 2)).map(([unit, length]) => {
      const count = Math.floor(rest / length);
      rest -= count * length;
      return new Intl.NumberFormat(this.tag, { style: "unit", unit, unitDisplay: "short" }).format(count);
    });
    return parts.join(" ");
  }
}
