//! A trace for a person.

use super::report::{Message, Report};
use crate::text::{count, fields, or_dash, printable, time};

/// Each message with what is known about it, in the order of its way.
pub(super) fn text(report: &Report) -> String {
    let mut parts = vec![format!("searched: {}", report.searched)];
    if report.messages.is_empty() {
        parts.push(format!("{}: {}", printable(&report.msg_id), report.unknown));
    }
    parts.extend(report.messages.iter().map(message));
    parts.join("\n\n")
}

fn message(message: &Message) -> String {
    let numbered = message.numbered.as_ref().map(|numbered| {
        let print = numbered.fingerprint.as_deref().unwrap_or("none: it was renumbered");
        format!("{} at {}, fingerprint {print}", numbered.seq, time(numbered.at_ms))
    });
    let stored = message.stored.as_ref().map(|stored| {
        let at =
            if stored.stored_at_ms == 0 { "an unknown time".to_owned() } else { time(stored.stored_at_ms) };
        format!("{} at {at}, kind {}", stored.seq, stored.msg_type)
    });
    let tristate = |value: Option<bool>| or_dash(value.map(crate::text::yes));
    let queue = match message.queue.is_known {
        true => {
            let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
            let ready = count(number(message.queue.ready_bodies), "body", "bodies");
            format!("{ready} ready, {}", count(number(message.queue.consumers), "consumer", "consumers"))
        }
        false => "not known".to_owned(),
    };
    let readers: Vec<String> =
        message.read_by.iter().map(|reader| format!("{} ({})", reader.user_id, reader.position)).collect();
    let mut rows = vec![
        ("conversation", message.conversation.clone()),
        ("sender", message.sender.clone()),
        ("numbered", numbered.unwrap_or_else(|| "Redis does not remember it".to_owned())),
        ("queue", format!("shard {}: {queue}", message.shard)),
        (
            "dead letters",
            if message.dead_letters.is_empty() { "-".to_owned() } else { message.dead_letters.join(" ") },
        ),
        ("stored", stored.unwrap_or_else(|| "no".to_owned())),
        ("renumbered", tristate(message.is_renumbered)),
        ("recalled", tristate(message.stored.as_ref().map(|stored| stored.is_recalled))),
        ("announced", tristate(message.is_announced)),
        ("read by", if readers.is_empty() { "-".to_owned() } else { readers.join(" ") }),
        ("last_seq", message.last_seq.to_string()),
        ("trace id", format!("{}, if a trace was recorded", message.trace_id)),
        ("so", message.conclusion.clone()),
    ];
    rows.extend(message.not_known.iter().map(|unknown| ("not known", (*unknown).to_owned())));
    fields(&rows)
}
