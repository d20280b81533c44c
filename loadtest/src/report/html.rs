//! The HTML page of a report: one file without scripts, images and fonts from elsewhere, for screens of any width.

use std::fmt::Write as _;

use serde_json::Value;

use super::plot::escaped;
use super::plots::plots;
use super::record::Record;
use super::run::Run;
use crate::scenario::{Conclusion, Figure, Outcome, number};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--good:#2e8b57;--bad:#c0392b;--warn:#b7791f}\
*{box-sizing:border-box}\
body{font:15px/1.5 system-ui,sans-serif;max-width:1340px;margin:0 auto;padding:24px;overflow-wrap:anywhere}\
h1{font-size:24px;margin:0 0 4px}h2{font-size:19px;margin:0}\
section{border-top:1px solid var(--line);padding:22px 0}\
.about{opacity:.75;margin:2px 0 14px}\
.columns{display:grid;grid-template-columns:minmax(320px,480px) minmax(0,1fr);gap:24px;align-items:start}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(380px,100%),1fr));gap:14px}\
figure{margin:0;min-width:0}\
svg{width:100%;height:auto;display:block}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
td,th{padding:4px 8px;border-bottom:1px solid var(--line);text-align:left;vertical-align:top;font-weight:400}\
td{white-space:nowrap}td.n{text-align:right}tr.sub th{padding-left:22px;opacity:.75}\
.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}.warn{color:var(--warn);font-weight:600}\
ul{margin:0 0 14px;padding-left:20px}\
details{margin:0 0 14px}summary{cursor:pointer}\
nav{display:flex;flex-wrap:wrap;gap:4px 14px}\
@media(max-width:900px){.columns{grid-template-columns:minmax(0,1fr)}}\
@media(max-width:600px){body{padding:14px}td,th{padding:4px}td{white-space:normal}svg text{font-size:17px}\
svg text.title{font-size:20px}}";

/// The page of these runs.
#[must_use]
pub fn page(runs: &[Run]) -> String {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>Load test</title><style>{STYLE}</style>\n<h1>Load test</h1>\n"
    );
    if let Some(run) = runs.first() {
        let _ = writeln!(html, "<p class=\"about\">{}</p>", escaped(&machine(&run.record)));
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

fn machine(record: &Record) -> String {
    let machine = &record.machine;
    let place = if record.gateways.is_empty() {
        "everything on this machine, the load generator too"
    } else {
        "the machine of the load generator"
    };
    format!(
        "{} cores, {}, {:.1} GiB, Linux {}; {place}",
        machine.cores,
        machine.processor,
        machine.memory_mib as f64 / 1024.0,
        machine.kernel
    )
}

fn section(run: &Run, html: &mut String) {
    let outcome = &run.outcome;
    let _ = write!(
        html,
        "<section id=\"{name}\"><h2>{name}</h2><p class=\"about\">{what}.</p>",
        name = escaped(&outcome.name),
        what = escaped(&outcome.what),
    );
    origin(&run.record, html);
    conclusion(outcome, html);
    html.push_str("<div class=\"columns\"><table>");
    for figure in &outcome.figures {
        row(figure, html);
    }
    verdict(outcome, html);
    html.push_str("</table><div class=\"plots\">");
    for (_, plot) in plots(outcome) {
        html.push_str("<figure>");
        html.push_str(&plot.svg());
        html.push_str("</figure>");
    }
    html.push_str("</div></div></section>\n");
}

/// Date, commit, gateways, and all options.
fn origin(record: &Record, html: &mut String) {
    let commit = record.commit.as_deref().unwrap_or("unknown");
    let gateways = if record.gateways.is_empty() {
        "a system that was started for the run".to_owned()
    } else {
        record.gateways.join(", ")
    };
    let _ = write!(
        html,
        "<details open><summary>{date}, version {version}, commit {commit}</summary>Gateways: {gateways}<br>Options: {options}</details>",
        date = escaped(&record.date),
        version = escaped(&record.version),
        commit = escaped(commit),
        gateways = escaped(&gateways),
        options = escaped(&options(&record.options)),
    );
}

fn options(options: &Value) -> String {
    let Some(options) = options.as_object() else { return "unknown".to_owned() };
    // Options that were not given and have no default are left out; gateways have their own line.
    let is_empty =
        |value: &Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    let shown = options.iter().filter(|(name, value)| *name != "gateway" && !is_empty(value));
    shown.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}

fn conclusion(outcome: &Outcome, html: &mut String) {
    let class = match outcome.conclusion() {
        Conclusion::Complete => "good",
        Conclusion::Incomplete => "warn",
        Conclusion::Broken => "bad",
    };
    let _ = write!(html, "<p class=\"{class}\">Result: {}</p>", escaped(&outcome.conclusion().to_string()));
    let reservations = outcome.reservations();
    if !reservations.is_empty() {
        let items: String =
            reservations.iter().map(|sentence| format!("<li>{}</li>", escaped(sentence))).collect();
        let _ = write!(html, "<ul>{items}</ul>");
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use testbed::client::{Refusal, Request};

    #[test]
    fn a_page_says_when_where_and_how_it_was_measured_and_what_was_refused() {
        let record =
            Record::new(json!({"messages": 100, "stored": false}), &["ws://chat.example:8080/ws".into()]);
        let date = record.date.clone();
        let refusal = Refusal {
            request: Request::Message,
            code: 429,
            message: "slow <down>".into(),
            count: 7,
            cause: "limits.user_messages_per_second (50 by default)".into(),
        };
        let mut outcome = Outcome { name: "burst".into(), refusals: vec![refusal], ..Outcome::default() };
        outcome.figure("acked", 12.0, "messages/s", None);
        let html = page(&[Run { record, outcome, figures: None }]);
        for part in [
            date.as_str(),
            "ws://chat.example:8080/ws",
            "messages 100",
            "INCOMPLETE",
            "slow &lt;down&gt;",
            "limits.user_messages_per_second (50 by default)",
            "width=device-width,initial-scale=1",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
    }
}
