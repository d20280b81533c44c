//! Rows in batches, each committed.

use std::sync::Arc;

use super::Settings;
use super::part::{Drive, Drivers, Part, measure};
use crate::baseline::{Message, Timeline};
use testbed::stack::Servers;

pub(super) const ROWS: &str = "rows";

/// Connections that insert, each into a conversation of its own.
const CONNECTIONS: u32 = 4;

/// Inserts batches into a table with the columns and keys of the timeline.
pub(super) async fn rows(settings: &Settings, url: &str, servers: &Servers) -> anyhow::Result<Part> {
    let timeline = Timeline::make(url, CONNECTIONS).await?;
    let drive = Arc::new(Drive::default());
    let mut drivers = Drivers::new();
    for group in 0..CONNECTIONS {
        let (timeline, drive) = (timeline.clone(), Arc::clone(&drive));
        let (batch, size) = (settings.batch, settings.size);
        drivers.spawn(async move {
            let mut last = 0;
            while drive.goes_on() {
                let messages: Vec<Message> = (last..last + batch).map(|n| message(group, n, size)).collect();
                timeline.insert_together(&messages, last as u64 + 1).await?;
                last += batch;
                drive.done(batch);
            }
            Ok(())
        });
    }
    let what = "a row in a batch, one statement and one commit for all of it";
    measure((ROWS, what), settings.seconds, servers, &drive, drivers).await
}

fn message(group: u32, n: usize, size: usize) -> Message {
    let sender = format!("limits.{group}.{}", n % 5);
    Message {
        conversation: format!("group_limits.{group}"),
        msg_id: format!("{sender}-{n}"),
        sender,
        content: "x".repeat(size),
    }
}
