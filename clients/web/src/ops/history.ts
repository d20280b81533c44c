/** What the reports of the last ten minutes say: rates from counters, percentiles from buckets, and the present state. */

import { increase, type Metrics, named, parse, sum } from "./metrics.ts";
import { type Buckets, quantile, Window } from "./percentile.ts";

/** The answer of `GET /api/admin/processes`. */
export interface Report {
  time_ms: number;
  /** Why the list of processes is an earlier one. */
  stale?: string;
  processes: ReportedProcess[];
}

export interface ReportedProcess {
  role: "gateway" | "worker";
  id: string;
  address: string | null;
  time_ms: number;
  metrics?: string;
  error?: string;
}

/** A row of the table of processes. */
export interface ProcessRow {
  role: "gateway" | "worker";
  id: string;
  address: string | undefined;
  error: string | undefined;
  version: string | undefined;
  isReady: boolean | undefined;
  connections: number | undefined;
  shards: number | undefined;
  uptimeS: number | undefined;
}

/** A row of the table of shards. */
export interface ShardRow {
  shard: number;
  /** Ids of the workers that consume it. More than one, or none, for a moment while it moves. */
  owners: string[];
  ready: number;
  unacked: number;
  held: number;
}

/** One moment. Values by chart and series: `refused/503`. */
export interface Point {
  timeS: number;
  values: Map<string, number>;
}

/** How long points are kept. */
export const SPAN_S = 600;
/** Without a report for this long, the lines of the charts are interrupted. */
const GAP_S = 5;
/** Percentiles are those of the last seconds. */
const WINDOW_SAMPLES = 10;
const PERCENTILES: [string, number][] = [
  ["p50", 0.5],
  ["p90", 0.9],
  ["p99", 0.99],
];

/** Charts of rates: the series of each, and the counters that it adds. */
const RATES: Record<string, Record<string, string[]>> = {
  messages: {
    accepted: ["im_gateway_messages_accepted_total"],
    committed: ["im_worker_messages_committed_total"],
  },
  pushes: {
    pushed: ["im_push_frames_total"],
    dropped: ["im_push_dropped_total"],
    resyncs: ["im_push_resyncs_total"],
  },
  gaps: {
    voided: ["im_worker_numbers_given_up_total"],
    renumbered: ["im_worker_messages_renumbered_total"],
  },
};
/** Counters whose label `code` makes the series. */
const REFUSALS = ["im_gateway_refused_total", "im_worker_messages_refused_total"];
const LATENCIES: Record<string, string> = {
  ack: "im_gateway_ack_seconds",
  push: "im_push_seconds",
  commit: "im_worker_commit_seconds",
};

interface Sample {
  timeMs: number;
  metrics: Metrics;
}

export class History {
  readonly points: Point[] = [];
  processes: ProcessRow[] = [];
  shards: ShardRow[] = [];
  #reportMs = 0;
  /** The last metrics of each process, by its id: a process that starts again has another one. */
  #samples = new Map<string, Sample>();
  #windows = new Map(Object.keys(LATENCIES).map((chart) => [chart, new Window(WINDOW_SAMPLES)]));

  /** False if the report is the one that was added last: several callers of a gateway share one. */
  add(report: Report): boolean {
    if (report.time_ms === this.#reportMs) return false;
    this.#reportMs = report.time_ms;
    const timeS = report.time_ms / 1000;
    const last = this.points.at(-1);
    // Another gateway, whose clock is behind.
    if (last && timeS <= last.timeS) this.points.length = 0;
    if (last && timeS > last.timeS + GAP_S) {
      this.points.push({ timeS: last.timeS + GAP_S, values: new Map() });
      for (const window of this.#windows.values()) window.clear();
    }
    const values = this.#values(report);
    this.points.push({ timeS, values });
    while ((this.points[0]?.timeS ?? timeS) < timeS - SPAN_S) this.points.shift();
    return true;
  }

  /** The series of a chart that have a value in the last ten minutes, sorted. */
  series(chart: string): string[] {
    const names = new Set<string>();
    for (const { values } of this.points) {
      for (const key of values.keys()) if (key.startsWith(`${chart}/`)) names.add(key.slice(chart.length + 1));
    }
    return [...names].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  }

  /** The present value of a series; undefined if it has none. */
  now(chart: string, series: string): number | undefined {
    return this.points.at(-1)?.values.get(`${chart}/${series}`);
  }

  /** The sum of the present values of a chart; undefined if it has none. */
  total(chart: string): number | undefined {
    let total: number | undefined;
    for (const [key, value] of this.points.at(-1)?.values ?? []) {
      if (key.startsWith(`${chart}/`)) total = (total ?? 0) + value;
    }
    return total;
  }

  #values(report: Report): Map<string, number> {
    const values = new Map<string, number>();
    const add = (key: string, value: number | undefined): void => {
      if (value !== undefined) values.set(key, (values.get(key) ?? 0) + value);
    };
    const latencies = new Map<string, Buckets>();
    const samples = new Map<string, Sample>();
    const shards = new Map<number, ShardRow>();
    this.processes = report.processes.map((process) => {
      if (process.metrics === undefined) {
        // Its rates go on from its last metrics, when it answers again.
        const before = this.#samples.get(process.id);
        if (before) samples.set(process.id, before);
        return row(process, undefined);
      }
      const sample = { timeMs: process.time_ms, metrics: parse(process.metrics) };
      const before = this.#samples.get(process.id);
      if (before && before.timeMs < sample.timeMs) rates(before, sample, add, latencies);
      samples.set(process.id, sample);
      gauges(process, sample.metrics, add, shards);
      return row(process, sample.metrics);
    });
    this.#samples = samples;
    this.shards = [...shards.values()].sort((a, b) => a.shard - b.shard);
    for (const { shard, ready, unacked } of this.shards) values.set(`backlog/${shard}`, ready + unacked);
    if (this.shards.length > 0) {
      values.set(
        "gaps/held",
        this.shards.reduce((held, row) => held + row.held, 0),
      );
    }
    for (const [chart, window] of this.#windows) {
      window.add(latencies.get(chart) ?? new Map());
      const sum = window.sum();
      for (const [name, part] of PERCENTILES) {
        const value = quantile(part, sum);
        if (value !== undefined) values.set(`${chart}/${name}`, value);
      }
    }
    return values;
  }
}

type Add = (key: string, value: number | undefined) => void;

/** Adds what one process has counted between two samples. */
function rates(before: Sample, now: Sample, add: Add, latencies: Map<string, Buckets>): void {
  const elapsedS = (now.timeMs - before.timeMs) / 1000;
  const risen = (id: string, value: number): number => increase(before.metrics.get(id)?.value ?? 0, value);
  const charts = new Map<string, string[]>();
  for (const [chart, all] of Object.entries(RATES)) {
    for (const [series, counters] of Object.entries(all)) {
      for (const counter of counters) charts.set(counter, [...(charts.get(counter) ?? []), `${chart}/${series}`]);
    }
  }
  const buckets = new Map(Object.entries(LATENCIES).map(([chart, name]) => [`${name}_bucket`, chart]));
  for (const [id, { name, labels, value }] of now.metrics) {
    for (const key of charts.get(name) ?? []) add(key, risen(id, value) / elapsedS);
    if (REFUSALS.includes(name)) {
      const perSecond = risen(id, value) / elapsedS;
      if (perSecond > 0) add(`refused/${labels.code ?? "?"}`, perSecond);
    }
    const chart = buckets.get(name);
    if (chart !== undefined) {
      const all = latencies.get(chart) ?? new Map<number, number>();
      const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
      all.set(bound, (all.get(bound) ?? 0) + risen(id, value));
      latencies.set(chart, all);
    }
  }
}

/** Adds what one process reports about this moment. */
function gauges(process: ReportedProcess, metrics: Metrics, add: Add, shards: Map<number, ShardRow>): void {
  if (process.role === "gateway") {
    add(`connections/${shortId(process.id)}`, sum(metrics, "im_gateway_connections") ?? 0);
    return;
  }
  add("dead/letters", sum(metrics, "im_dead_letters"));
  for (const { name, labels, value } of metrics.values()) {
    const shard = Number(labels.shard);
    if (labels.shard === undefined || !Number.isInteger(shard)) continue;
    const row = shards.get(shard) ?? { shard, owners: [], ready: 0, unacked: 0, held: 0 };
    shards.set(shard, row);
    if (name === "im_worker_shard_owner" && value === 1) row.owners.push(process.id);
    if (name === "im_worker_queue_ready_bodies") row.ready += value;
    if (name === "im_worker_queue_unacked_bodies") row.unacked += value;
    if (name === "im_worker_messages_held") row.held += value;
  }
}

function row(process: ReportedProcess, metrics: Metrics | undefined): ProcessRow {
  const { role, id, error } = process;
  const of = (name: string): number | undefined => (metrics ? sum(metrics, name) : undefined);
  const started = of("im_process_start_time_seconds");
  const ready = of("im_process_ready");
  // Several processes in one, as in tests, report together.
  const info = metrics && named(metrics, "im_process_info").find((series) => series.labels.id === id);
  return {
    role,
    id,
    error,
    address: process.address ?? undefined,
    version: info?.labels.version,
    isReady: ready === undefined ? undefined : ready > 0,
    connections: role === "gateway" ? of("im_gateway_connections") : undefined,
    shards: role === "worker" ? of("im_worker_shards") : undefined,
    uptimeS: started === undefined ? undefined : Math.max(0, process.time_ms / 1000 - started),
  };
}

/** The beginning of an id, which tells a few processes apart. */
export function shortId(id: string): string {
  return id.slice(0, 8);
}
