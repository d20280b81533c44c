//! Rules, dashboards, runbook and docs/metrics.md name metrics that exist, and all that exist are described.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use promql_parser::parser::{self, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;
use shared::metrics::{ALL, Kind, Metric, STANDARD};

/// Labels that Prometheus and the rules add to those of the metrics.
const ADDED_LABELS: [&str; 5] = ["job", "instance", "le", "alertname", "alertstate"];
/// Metrics of Prometheus itself that expressions use.
const OF_PROMETHEUS: [&str; 2] = ["up", "ALERTS"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    assert!(!files.is_empty(), "{folder} has no .{extension} file");
    files
}

/// Where an expression stands, and the expression.
type Expression = (String, String);

#[derive(Debug)]
struct Alert {
    name: String,
    severity: String,
    summary: String,
    runbook_url: String,
}

#[derive(Debug, Default)]
struct Rules {
    expressions: Vec<Expression>,
    recorded: BTreeSet<String>,
    alerts: Vec<Alert>,
}

fn yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn rules() -> Rules {
    let mut rules = Rules::default();
    for path in files("deploy/prometheus/rules", "yml") {
        for rule in list(&yaml(&path)["groups"]).iter().flat_map(|group| list(&group["rules"])) {
            let name = if rule["record"].is_string() { text(&rule["record"]) } else { text(&rule["alert"]) };
            rules.expressions.push((name.clone(), text(&rule["expr"])));
            if rule["record"].is_string() {
                rules.recorded.insert(name);
            } else {
                rules.alerts.push(Alert {
                    name,
                    severity: text(&rule["labels"]["severity"]),
                    summary: text(&rule["annotations"]["summary"]),
                    runbook_url: text(&rule["annotations"]["runbook_url"]),
                });
            }
        }
    }
    rules
}

/// The expressions of all panels and variables. Grafana's own variables are replaced by what they may be.
fn dashboards() -> Vec<Expression> {
    let mut expressions = Vec::new();
    for path in files("deploy/grafana/dashboards", "json") {
        let dashboard: Value = serde_json::from_str(&read(&path)).unwrap();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let panels = list(&dashboard["panels"]).iter().flat_map(|panel| {
            let own =
                list(&panel["targets"]).iter().map(|target| (text(&panel["title"]), text(&target["expr"])));
            own.collect::<Vec<_>>()
        });
        let variables =
            list(&dashboard["templating"]["list"]).iter().filter(|variable| variable["type"] == "query");
        let of_variables = variables.filter_map(|variable| {
            let query = text(&variable["query"]["query"]);
            let (metric, _label) =
                query.strip_prefix("label_values(")?.strip_suffix(')')?.rsplit_once(',')?;
            Some((format!("variable {}", text(&variable["name"])), metric.to_owned()))
        });
        for (title, expression) in panels.chain(of_variables) {
            let expression = expression.replace("$__rate_interval", "1m").replace("$__range", "1h");
            expressions.push((format!("{file}: {title}"), expression));
        }
    }
    expressions
}

#[derive(Default)]
struct Selectors(Vec<VectorSelector>);

impl ExprVisitor for Selectors {
    type Error = String;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, String> {
        match expression {
            Expr::VectorSelector(selector) => self.0.push(selector.clone()),
            Expr::MatrixSelector(matrix) => self.0.push(matrix.vs.clone()),
            _ => {}
        }
        Ok(true)
    }
}

/// The metric and labels that a series in Prometheus may have.
fn series() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut series = BTreeMap::new();
    for metric in ALL.iter().chain(STANDARD) {
        let labels: BTreeSet<&str> = metric.labels.iter().copied().chain(ADDED_LABELS).collect();
        let suffixes: &[&str] = match metric.kind {
            Kind::Histogram => &["_bucket", "_sum", "_count"],
            Kind::Counter | Kind::Gauge => &[""],
        };
        for suffix in suffixes {
            series.insert(format!("{}{suffix}", metric.name), labels.clone());
        }
    }
    series
}

#[test]
fn expressions_of_rules_and_dashboards_parse_and_name_metrics_and_labels_that_exist() {
    let rules = rules();
    let mut series = series();
    let any_label: BTreeSet<&str> =
        ALL.iter().flat_map(|metric| metric.labels).copied().chain(ADDED_LABELS).collect();
    for name in rules.recorded.iter().map(String::as_str).chain(OF_PROMETHEUS) {
        series.insert(name.to_owned(), any_label.clone());
    }
    let mut wrong = Vec::new();
    for (place, expression) in rules.expressions.iter().cloned().chain(dashboards()) {
        let parsed = match parser::parse(&expression) {
            Ok(parsed) => parsed,
            Err(error) => {
                wrong.push(format!("{place}: `{expression}` does not parse: {error}"));
                continue;
            }
        };
        let mut selectors = Selectors::default();
        walk_expr(&mut selectors, &parsed).unwrap();
        if selectors.0.is_empty() {
            wrong.push(format!("{place}: `{expression}` selects no metric"));
        }
        for selector in selectors.0 {
            let name = selector.name.clone().unwrap_or_default();
            let Some(labels) = series.get(&name) else {
                wrong.push(format!("{place}: there is no metric `{name}`"));
                continue;
            };
            for matcher in &selector.matchers.matchers {
                if !labels.contains(matcher.name.as_str()) {
                    wrong.push(format!("{place}: `{name}` has no label `{}`", matcher.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_alert_has_a_severity_a_summary_a_runbook_entry_and_a_test_that_fires_and_does_not() {
    let runbook = read("docs/runbook.md");
    let headings: BTreeSet<&str> = runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files("deploy/prometheus/tests", "yml") {
        for check in list(&yaml(&path)["tests"]).iter().flat_map(|test| list(&test["promql_expr_test"])) {
            let expression = text(&check["expr"]);
            let Some((name, _)) =
                expression.split_once("alertname=\"").and_then(|(_, rest)| rest.split_once('"'))
            else {
                continue;
            };
            let value = check["exp_samples"][0]["value"].to_string();
            expected.entry(name.to_owned()).or_default().insert(value);
        }
    }
    let alerts = rules().alerts;
    let mut wrong = Vec::new();
    for Alert { name, severity, summary, runbook_url } in &alerts {
        if !["critical", "warning"].contains(&severity.as_str()) {
            wrong.push(format!("{name}: the severity is `{severity}`, not critical or warning"));
        }
        if !summary.ends_with('.') {
            wrong.push(format!("{name}: the summary is no sentence: `{summary}`"));
        }
        if *runbook_url != format!("docs/runbook.md#{}", name.to_lowercase())
            || !headings.contains(name.as_str())
        {
            wrong.push(format!(
                "{name}: runbook_url does not lead to a heading `### {name}` of docs/runbook.md"
            ));
        }
        let values = expected.get(name).map(|values| values.len());
        if values != Some(2) {
            wrong.push(format!(
                "{name}: deploy/prometheus/tests need a check that it fires (1) and one that it does not (0)"
            ));
        }
    }
    let names: BTreeSet<&str> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    assert_eq!(names.len(), alerts.len(), "two alerts have one name");
    for heading in headings.iter().filter(|heading| heading.starts_with("Im")) {
        if !names.contains(heading) {
            wrong.push(format!("docs/runbook.md describes `{heading}`, which is no alert"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn rows(metrics: &[Metric]) -> String {
    let mut table = String::from("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
    for Metric { name, kind, labels, help } in metrics {
        let kind = format!("{kind:?}").to_lowercase();
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(table, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
    }
    table
}

/// The page between the markers. `IM_UPDATE_DOCS=1` writes it.
#[test]
fn the_table_of_metrics_is_that_of_the_code() {
    let page = read("docs/metrics.md");
    let (before, rest) = page.split_once("<!-- metrics -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->\n").unwrap();
    let part = |title: &str, is_here: &dyn Fn(&str) -> bool| {
        let metrics: Vec<Metric> = ALL.iter().filter(|metric| is_here(metric.name)).copied().collect();
        format!("## {title}\n\n{}\n", rows(&metrics))
    };
    let is_of = |name: &str, prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let gateway = |name: &str| is_of(name, &["im_gateway_", "im_push_"]);
    let worker = |name: &str| is_of(name, &["im_worker_", "im_dead_"]);
    let table = [
        part("Of both", &|name| !gateway(name) && !worker(name)),
        part("Of gateways", &gateway),
        part("Of workers", &worker),
        format!("## Of the process\n\n{}\n", rows(STANDARD)),
    ];
    let wanted = format!("{before}<!-- metrics -->\n{}<!-- end -->\n{after}", table.concat());
    if std::env::var_os("IM_UPDATE_DOCS").is_some() {
        std::fs::write(root().join("docs/metrics.md"), &wanted).unwrap();
    }
    assert!(page == wanted, "docs/metrics.md is not up to date: run this test with IM_UPDATE_DOCS=1");
}

#[test]
fn names_keep_the_conventions_of_prometheus() {
    let mut wrong = Vec::new();
    for Metric { name, kind, labels, help } in ALL.iter().chain(STANDARD) {
        if name.ends_with("_total") != (*kind == Kind::Counter) {
            wrong.push(format!("{name}: counters, and only they, end in _total"));
        }
        let units = ["_ms", "_milliseconds", "_us", "_kib", "_mib", "_minutes", "_percent"];
        if units.iter().any(|unit| name.trim_end_matches("_total").ends_with(unit)) {
            wrong.push(format!("{name}: durations are in seconds and sizes in bytes"));
        }
        if !help.ends_with('.') || help.contains('|') {
            wrong.push(format!("{name}: the help text is one or more sentences, without |"));
        }
        if labels
            .iter()
            .any(|label| ADDED_LABELS.contains(label) || ["user", "conversation", "address"].contains(label))
        {
            wrong.push(format!("{name}: a label is reserved or has no bound"));
        }
    }
    let names: BTreeSet<&str> = ALL.iter().chain(STANDARD).map(|metric| metric.name).collect();
    assert_eq!(names.len(), ALL.len() + STANDARD.len(), "two metrics have one name");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A metric whose name is not in `shared::metrics` would have no description, and one that nobody sets would be a promise.
#[test]
fn all_metrics_in_the_code_are_listed_and_all_listed_ones_are_set() {
    let mut code = String::new();
    for folder in ["shared/src", "gateway/src", "worker/src"] {
        sources(&root().join(folder), &mut code);
    }
    for call in ["counter!(\"", "gauge!(\"", "histogram!(\""] {
        assert!(
            !code.contains(call),
            "`{call}` with a literal name: add the metric to shared/src/metrics.rs"
        );
    }
    let list = read("shared/src/metrics.rs");
    // These are set where they are listed.
    code.push_str(list.split_once("pub fn built_from").unwrap().1);
    let constants =
        list.lines().filter_map(|line| line.trim().split_once(" = \"im_").map(|(constant, _)| constant));
    let unused: Vec<&str> = constants.filter(|constant| !code.contains(constant)).collect();
    assert!(unused.is_empty(), "nobody sets {unused:?} of shared/src/metrics.rs");
}

fn sources(folder: &Path, code: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, code);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with("src/metrics.rs")
        {
            code.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}
