//! One page that holds everything: no script, no picture, no font from elsewhere.

use std::fmt::Write as _;

use super::plot::escaped;
use super::plots::plots;
use super::{Record, Run};
use crate::scenario::{Figure, Outcome, number};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--good:#2e8b57;--bad:#c0392b}\
*{box-sizing:border-box}\
body{font:15px/1.5 system-ui,sans-serif;max-width:1340px;margin:0 auto;padding:24px}\
h1{font-size:24px;margin:0 0 4px}h2{font-size:19px;margin:0}\
section{border-top:1px solid var(--line);padding:22px 0}\
.about{opacity:.75;margin:2px 0 14px}\
.columns{display:grid;grid-template-columns:minmax(320px,480px) 1fr;gap:24px;align-items:start}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(380px,1fr));gap:14px}\
svg{width:100%;height:auto;display:block}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
td,th{padding:4px 8px;border-bottom:1px solid var(--line);text-align:left;vertical-align:top;font-weight:400}\
td{white-space:nowrap}td.n{text-align:right}tr.sub th{padding-left:22px;opacity:.75}\
.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}\
nav a{margin-right:14px}\
@media(max-width:900px){.columns{grid-template-columns:1fr}}";

/// The page of some runs.
#[must_use]
pub fn page(runs: &[Run]) -> String {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Load test</title><style>{STYLE}</style>\n<h1>Load test</h1>\n"
    );
    if let Some(run) = runs.first() {
        let _ = writeln!(html, "<p class=\"about\">{}</p>", escaped(&from(&run.record)));
    }
    if runs.len() > 1 {
        html.push_str("<nav>");
        for run in runs {
            let name = escaped(&run.outcome.name);
            let _ = write!(html, "<a href=\"#{name}\">{name}</a>");
        }
        html.push_str("</nav>\n");
    }
    for run in runs {
        section(run, &mut html);
    }
    html
}

fn from(record: &Record) -> String {
    let machine = &record.machine;
    format!(
        "{} cores, {}, {:.1} GiB, Linux {}; everything on this machine, the load generator too",
        machine.cores,
        machine.processor,
        machine.memory_mib as f64 / 1024.0,
        machine.kernel
    )
}

fn section(run: &Run, html: &mut String) {
    let outcome = &run.outcome;
    let commit = run.record.commit.as_deref().unwrap_or("unknown");
    let _ = write!(
        html,
        "<section id=\"{name}\"><h2>{name}</h2><p class=\"about\">{what}. Commit {commit}.</p>\
         <div class=\"columns\"><table>",
        name = escaped(&outcome.name),
        what = escaped(&outcome.what),
    );
    for figure in &outcome.figures {
        row(figure, html);
    }
    verdict(outcome, html);
    html.push_str("</table><div class=\"plots\">");
    for (_, plot) in plots(outcome) {
        html.push_str("<figure style=\"margin:0\">");
        html.push_str(&plot.svg());
        html.push_str("</figure>");
    }
    html.push_str("</div></div></section>\n");
}

fn row(figure: &Figure, html: &mut String) {
    let Figure { name, value, unit, goal } = figure;
    let sub = if name.starts_with(' ') { " class=\"sub\"" } else { "" };
    let goal = match goal {
        Some(goal) if goal.is_met(*value) => format!("<span class=\"good\">{goal} ✓</span>"),
        Some(goal) => format!("<span class=\"bad\">{goal} ✗</span>"),
        None => String::new(),
    };
    let _ = write!(
        html,
        "<tr{sub}><th>{}</th><td class=\"n\">{} {}</td><td>{goal}</td></tr>",
        escaped(name.trim()),
        number(*value),
        escaped(unit)
    );
}

fn verdict(outcome: &Outcome, html: &mut String) {
    let Some(verdict) = &outcome.verdict else { return };
    let (class, word) = if verdict.is_good() { ("good", "kept ✓") } else { ("bad", "BROKEN ✗") };
    let _ = write!(
        html,
        "<tr><th>promises, judged over {} messages</th><td class=\"n {class}\">{word}</td><td></td></tr>",
        number(verdict.acked as f64)
    );
    if !verdict.is_good() {
        let _ = write!(html, "<tr><th colspan=\"3\">{}</th></tr>", escaped(&verdict.to_string()));
    }
}
