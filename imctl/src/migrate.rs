//! `imctl migrate`: the schema of MySQL.

use serde::Serialize;
use shared::mysql::{self, MigrationState};

use crate::context::Context;
use crate::output::{Ending, Output};
use crate::text::count;

/// What `imctl migrate --json` prints.
#[derive(Debug, Serialize)]
struct Report {
    is_dry_run: bool,
    /// Migrations that the schema lacked before.
    pending: Vec<Pending>,
    /// Migrations that it had.
    applied: usize,
}

#[derive(Debug, Serialize)]
struct Pending {
    version: i64,
    description: String,
    sql: &'static str,
}

/// Runs, or only prints, the migrations that the schema lacks.
pub(crate) async fn run(context: &Context, dry_run: bool, output: Output) -> anyhow::Result<Ending> {
    let pool = context.mysql().await?;
    let migrations = mysql::migrations(&pool).await?;
    let applied = migrations.iter().filter(|migration| migration.is_applied).count();
    let pending = migrations.into_iter().filter(|migration| !migration.is_applied);
    let pending =
        pending.map(|MigrationState { version, description, sql, .. }| Pending { version, description, sql });
    let report = Report { is_dry_run: dry_run, pending: pending.collect(), applied };
    if !dry_run && !report.pending.is_empty() {
        mysql::migrate(&pool).await?;
    }
    output.show(&report, text)?;
    Ok(Ending::Good)
}

fn text(report: &Report) -> String {
    let migrations = |number| count(number, "migration", "migrations");
    let mut lines = Vec::new();
    for Pending { version, description, sql } in &report.pending {
        lines.push(format!("-- {version:04} {description}"));
        if report.is_dry_run {
            lines.push(format!("{}\n", sql.trim_end()));
        }
    }
    let done = if report.is_dry_run { "pending, nothing was changed" } else { "applied now" };
    lines.push(format!("{} {done}, {} before", migrations(report.pending.len()), report.applied));
    lines.join("\n")
}
