//! `imctl files verify`: the files that the database knows, and those that the store has.

use anyhow::Context as _;
use filestore::FileStore;
use filestore::link::Variant;
use futures_util::StreamExt as _;
use futures_util::stream::iter;
use serde::Serialize;
use shared::config::FileStoreKind;
use shared::message::FileId;
use shared::mysql::Pool;
use shared::mysql::files::{self as rows, VerifiedObject};

use crate::context::Context;
use crate::output::{Ending, Output, Progress};
use crate::text::count;

/// Files that are compared in one step.
const STEP: u32 = 500;
/// Questions to the store at a time.
const AT_ONCE: usize = 16;
/// Findings that are kept; all are counted.
const KEPT_MAX: usize = 10_000;

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// Stable name of the kind.
    code: &'static str,
    object_id: String,
    message: String,
}

/// What `imctl files verify --json` prints.
#[derive(Debug, Default, Serialize)]
struct Report {
    files: u64,
    bytes: u64,
    /// Objects of the store that were looked for in the database.
    objects: u64,
    /// At most 10,000.
    findings: Vec<Finding>,
    findings_total: u64,
}

impl Report {
    fn find(&mut self, code: &'static str, object_id: &FileId, message: String) {
        self.findings_total += 1;
        if self.findings.len() < KEPT_MAX {
            self.findings.push(Finding { code, object_id: object_id.to_string(), message });
        }
    }
}

/// Compares both ways. Nothing is changed.
pub(crate) async fn verify(context: &Context, output: Output) -> anyhow::Result<Ending> {
    let files = &context.config().files;
    let folder = &files.folder;
    anyhow::ensure!(
        files.store != FileStoreKind::Folder || folder.is_dir(),
        "files.folder: there is no folder {}",
        folder.display()
    );
    let store = FileStore::open(files)?;
    let store = store.context("this deployment has no files: files.store is \"none\"")?;
    let pool = context.mysql().await?;
    let mut report = Report::default();
    let mut progress = Progress::new();
    of_database(&pool, &store, &mut report, &mut progress).await?;
    of_store(&pool, &store, &mut report, &mut progress).await?;
    drop(progress);
    output.show(&report, text)?;
    Ok(Ending::of(&report.findings))
}

/// Every file that the database has must be in the store.
async fn of_database(
    pool: &Pool,
    store: &FileStore,
    report: &mut Report,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let mut after: Option<FileId> = None;
    loop {
        let objects = rows::objects_after(pool, after.as_ref(), STEP).await?;
        let Some(last) = objects.last() else { return Ok(()) };
        after = Some(last.object_id.clone());
        let mut found = iter(objects).map(|object| look_up(store, object)).buffered(AT_ONCE);
        while let Some(found) = found.next().await {
            let (object, original, thumb) = found?;
            report.files += 1;
            report.bytes += object.size;
            check(pool, report, &object, original, thumb).await?;
        }
        progress.show(|| format!("{} files, {} findings", report.files, report.findings_total));
    }
}

/// The sizes that the store has of an object and of its small picture.
async fn look_up(
    store: &FileStore,
    object: VerifiedObject,
) -> anyhow::Result<(VerifiedObject, Option<u64>, Option<u64>)> {
    let original = store.size(&object.object_id, Variant::Original).await?;
    let thumb = if object.has_thumb { store.size(&object.object_id, Variant::Thumb).await? } else { Some(0) };
    Ok((object, original, thumb))
}

async fn check(
    pool: &Pool,
    report: &mut Report,
    object: &VerifiedObject,
    original: Option<u64>,
    thumb: Option<u64>,
) -> anyhow::Result<()> {
    let id = &object.object_id;
    if original == Some(object.size) && thumb.is_some() {
        return Ok(());
    }
    // It may have been removed or rewritten since it was listed.
    if rows::known_objects(pool, std::slice::from_ref(id)).await?.is_empty() {
        return Ok(());
    }
    match original {
        None => report.find("missing", id, "the store does not have it".to_owned()),
        Some(size) if size != object.size => {
            report.find("size", id, format!("it has {size} bytes, and should have {}", object.size));
        }
        Some(_) => {}
    }
    if thumb.is_none() {
        report.find("missing_thumb", id, "the store does not have its small picture".to_owned());
    }
    Ok(())
}

/// Every object of the store must belong to a file.
async fn of_store(
    pool: &Pool,
    store: &FileStore,
    report: &mut Report,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let mut objects = store.objects().chunks(STEP as usize);
    while let Some(objects) = objects.next().await {
        let objects = objects.into_iter().collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<FileId> = objects.iter().map(|(id, _)| id.clone()).collect();
        let known = rows::known_objects(pool, &ids).await?;
        for (id, size) in &objects {
            report.objects += 1;
            if !known.contains(id) {
                report.find("unknown", id, format!("the database does not know it; it has {size} bytes"));
            }
        }
        progress
            .show(|| format!("{} objects of the store, {} findings", report.objects, report.findings_total));
    }
    Ok(())
}

fn text(report: &Report) -> String {
    let line = |found: &Finding| format!("{}: {}: {}", found.object_id, found.code, found.message);
    let mut lines: Vec<String> = report.findings.iter().map(line).collect();
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    lines.push(format!(
        "{} of {} bytes, {}: {}",
        count(number(report.files), "file", "files"),
        report.bytes,
        count(number(report.objects), "object of the store", "objects of the store"),
        count(number(report.findings_total), "finding", "findings")
    ));
    lines.join("\n")
}
