//! The rules. Each finding names the offending place and how to mend it.

use std::fmt;

use super::imports::{Crate, Edge};
use super::source::{ImportPath, Source, folder_of};

/// Most lines of a file, without its tests.
pub(crate) const FILE_LINES_MAX: usize = 400;
/// Most lines of a function.
pub(crate) const FUNCTION_LINES_MAX: usize = 60;
/// Most arguments of a function, without `self`.
pub(crate) const ARGUMENTS_MAX: usize = 5;

/// Modules at the top of a crate, a row for each floor, from top to bottom: each may import those of lower rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layers {
    pub(crate) crate_name: &'static str,
    pub(crate) rows: &'static [&'static str],
    /// Crates of the workspace that it may import.
    pub(crate) crates: &'static [&'static str],
}

/// One offence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) rule: &'static str,
    pub(crate) file: String,
    pub(crate) line: usize,
    /// What tells it from others of the same rule in the same file; empty if there can be only one.
    pub(crate) subject: String,
    pub(crate) message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.message)
    }
}

/// All offences in `sources`.
pub(crate) fn check(sources: &[Source], crates: &[Layers]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for layers in crates {
        let of_crate = Crate::of(layers.crate_name, sources);
        findings.extend(circles(&of_crate));
        findings.extend(directions(&of_crate, layers));
        findings.extend(foreign_crates(&of_crate, layers, crates));
        for file in &of_crate.files {
            if layers.crate_name != "proto" {
                findings.extend(sizes(file));
            }
            findings.extend(face(file));
            findings.extend(stores(file));
        }
    }
    findings
}

fn circles(of_crate: &Crate<'_>) -> Vec<Finding> {
    let finding = |circle: Vec<Edge>| {
        let file = |place: usize| of_crate.files[place].file.clone();
        let steps: Vec<String> = circle
            .iter()
            .map(|edge| {
                format!("{}:{} imports {} ({})", file(edge.from), edge.line, file(edge.to), edge.path)
            })
            .collect();
        let mend = "move what both need into a file of its own below them, or hand it in as an argument";
        let message = format!("{}; {mend}", steps.join(", "));
        let first = &circle[0];
        Finding { rule: "circle", file: file(first.from), line: first.line, subject: String::new(), message }
    };
    of_crate.circles().into_iter().map(finding).collect()
}

fn directions(of_crate: &Crate<'_>, layers: &Layers) -> Vec<Finding> {
    let row_of = |module: &str| layers.rows.iter().position(|row| row.split(' ').any(|one| one == module));
    let unit = |file: &Source| -> String {
        if file.is_main() { "main".to_owned() } else { file.module.first().cloned().unwrap_or_default() }
    };
    let mut findings = Vec::new();
    let mut units: Vec<(&Source, String)> = of_crate.files.iter().map(|file| (*file, unit(file))).collect();
    units.retain(|(_, unit)| !unit.is_empty());
    for (file, unit) in &units {
        if row_of(unit).is_none() {
            let message =
                format!("`{unit}` is in no row of the table of layers: add it where its imports allow");
            let (file, subject) = (file.file.clone(), String::new());
            findings.push(Finding { rule: "direction", file, line: 1, subject, message });
        }
    }
    for module in layers.rows.iter().flat_map(|row| row.split(' ')) {
        if !units.iter().any(|(_, unit)| unit == module) {
            let message = format!("`{module}` is in the table of layers and does not exist: remove it there");
            let file = format!("{}/src", folder_of(layers.crate_name));
            findings.push(Finding { rule: "direction", file, line: 1, subject: module.to_owned(), message });
        }
    }
    for edge in of_crate.edges() {
        let (from, to) = (of_crate.files[edge.from], of_crate.files[edge.to]);
        let (from_unit, to_unit) = (unit(from), unit(to));
        let (Some(from_row), Some(to_row)) = (row_of(&from_unit), row_of(&to_unit)) else { continue };
        if from_unit != to_unit && from_row >= to_row {
            let message = format!(
                "imports {} ({}), but `{to_unit}` is not below `{from_unit}`: move what is needed down, or hand it in from above",
                to.file, edge.path
            );
            let (file, subject) = (from.file.clone(), to.file.clone());
            findings.push(Finding { rule: "direction", file, line: edge.line, subject, message });
        }
    }
    findings
}

fn foreign_crates(of_crate: &Crate<'_>, layers: &Layers, crates: &[Layers]) -> Vec<Finding> {
    let ours = |name: &str| crates.iter().any(|layers| layers.crate_name == name);
    let mut findings = Vec::new();
    for file in &of_crate.files {
        for (line, name) in of_crate.crates_named(file) {
            if ours(name) && !layers.crates.contains(&name) {
                let message =
                    format!("imports the crate `{name}`: only {:?} are below this one", layers.crates);
                let (file, subject) = (file.file.clone(), name.to_owned());
                findings.push(Finding { rule: "direction", file, line, subject, message });
            }
        }
    }
    findings
}

fn sizes(source: &Source) -> Vec<Finding> {
    let file = || source.file.clone();
    let mut findings = Vec::new();
    if source.lines > FILE_LINES_MAX {
        let message = format!(
            "{} lines without tests, more than {FILE_LINES_MAX}: give one of its concerns a file of its own",
            source.lines
        );
        findings.push(Finding {
            rule: "file length",
            file: file(),
            line: 1,
            subject: String::new(),
            message,
        });
    }
    for function in &source.functions {
        let (line, subject) = (function.line, function.name.clone());
        if function.lines > FUNCTION_LINES_MAX {
            let message = format!(
                "`{subject}` has {} lines, more than {FUNCTION_LINES_MAX}: give its steps functions of their own",
                function.lines
            );
            findings.push(Finding {
                rule: "function length",
                file: file(),
                line,
                subject: subject.clone(),
                message,
            });
        }
        if function.arguments > ARGUMENTS_MAX {
            let message = format!(
                "`{subject}` takes {} arguments, more than {ARGUMENTS_MAX}: group those that belong together in a struct",
                function.arguments
            );
            findings.push(Finding { rule: "arguments", file: file(), line, subject, message });
        }
    }
    findings
}

fn face(source: &Source) -> Vec<Finding> {
    let line = source.definitions.first().filter(|_| source.file.ends_with("/mod.rs"));
    let message = "holds more than `mod`, `use` and documentation: give its items a file of their own, and re-export them";
    let finding = |line: &usize| Finding {
        rule: "mod.rs",
        file: source.file.clone(),
        line: *line,
        subject: String::new(),
        message: message.to_owned(),
    };
    line.map(finding).into_iter().collect()
}

const SQL: [&str; 14] = [
    "SELECT ",
    "INSERT ",
    "UPDATE ",
    "DELETE ",
    "REPLACE ",
    "CREATE ",
    "ALTER ",
    "DROP ",
    "TRUNCATE ",
    "SHOW ",
    "START TRANSACTION",
    "SET SESSION",
    "LOCK TABLES",
    "WITH RECURSIVE",
];
const QUEUES: [&str; 3] = [".msg", ".push", ".dead"];
const DECLARATIONS: [&str; 6] =
    ["queue_declare", "queue_bind", "queue_delete", "exchange_declare", "exchange_bind", "exchange_delete"];

/// SQL, Redis keys, Lua, and names of queues have one place each.
fn stores(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |rule, line, what: &str, place: &str| {
        let message = format!("`{what}` outside of {place}: add a function there, and call it here");
        let (file, subject) = (source.file.clone(), what.to_owned());
        findings.push(Finding { rule, file, line, subject, message });
    };
    let in_mysql = source.file.starts_with("shared/src/mysql/");
    let in_redis = source.file.starts_with("shared/src/redis/");
    let in_topology = source.file == "shared/src/amqp/topology.rs";
    for (line, text) in &source.strings {
        let text = text.trim();
        let first_line = text.lines().next().unwrap_or_default();
        if !in_mysql && SQL.iter().any(|verb| text.starts_with(verb)) {
            find("SQL", *line, first_line, "shared/src/mysql");
        }
        let is_lua = text.contains("redis.call") || text.ends_with(".lua");
        if !in_redis && (text.starts_with("im:") || is_lua) {
            find("Redis", *line, first_line, "shared/src/redis");
        }
        if !in_topology && names_queue(text) {
            find("queue", *line, first_line, "shared/src/amqp/topology.rs");
        }
    }
    for import in &source.imports {
        let ImportPath::Relative(_, path) = &import.path else { continue };
        match &path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["sqlx", name, ..] if !in_mysql && (name.starts_with("query") || *name == "QueryBuilder") => {
                find("SQL", import.line, &path.join("::"), "shared/src/mysql");
            }
            ["fred", ..] if !in_redis => find("Redis", import.line, &path.join("::"), "shared/src/redis"),
            _ => {}
        }
    }
    for (line, method) in &source.method_calls {
        if !in_topology && DECLARATIONS.contains(&method.as_str()) {
            find("queue", *line, method, "shared/src/amqp/topology.rs");
        }
    }
    findings
}

/// `{prefix}.msg.{shard}`, `im.push`
fn names_queue(text: &str) -> bool {
    let after_prefix = match text.strip_prefix('{') {
        Some(rest) => rest.split_once('}').map(|(_, rest)| rest),
        None => text.strip_prefix("im"),
    };
    after_prefix.is_some_and(|rest| QUEUES.iter().any(|queue| rest.starts_with(queue)))
}
