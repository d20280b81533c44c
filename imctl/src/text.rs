//! What a person reads: tables, times, and texts of users without control characters.

use comfy_table::{Table, presets};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A table with aligned columns; empty without rows.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)).collect::<Vec<_>>());
    }
    if table.is_empty() { String::new() } else { lines_of(&mut table) }
}

/// One line for each name with its value.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, value) in fields {
        table.add_row([format!("{name}:"), printable(value)]);
    }
    lines_of(&mut table)
}

fn lines_of(table: &mut Table) -> String {
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// `text` without control characters, which could change what a terminal shows. Ids, names and contents come from users.
pub(crate) fn printable(text: &str) -> String {
    let is_unsafe = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().fold(String::with_capacity(text.len()), |mut text, c| {
        if is_unsafe(c) {
            text.extend(c.escape_unicode())
        } else {
            text.push(c)
        }
        text
    })
}

/// A time in milliseconds since 1970 as in RFC 3339, in UTC with seconds.
pub(crate) fn time(ms: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(ms.div_euclid(1_000)).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{ms} ms after 1970"))
}

/// A duration in its largest fitting unit.
pub(crate) fn duration(ms: i64) -> String {
    match ms.max(0) / 1_000 {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// A value, or `-` for `None`.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `one dead letter`, `3 dead letters`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// `yes` or `no`.
pub(crate) fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_are_escaped() {
        let rows =
            [vec!["a".to_owned(), "\u{1b}[31mred".to_owned()], vec!["longer".to_owned(), "x".to_owned()]];
        let text = table(&["id", "name"], rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(text.contains("\\u{1b}[31mred"), "{text}");
        assert_eq!(lines[1].find("\\u"), lines[2].find('x'), "{text}");
        assert_eq!(table(&["id"], []), "");
        assert_eq!(printable("a\u{202e}b\n"), "a\\u{202e}b\\u{a}");
    }

    #[test]
    fn times_and_durations_are_readable() {
        assert_eq!(time(1_700_000_000_999), "2023-11-14T22:13:20Z");
        assert_eq!(time(i64::MAX), format!("{} ms after 1970", i64::MAX));
        for (ms, text) in
            [(-5, "0 s"), (119_999, "119 s"), (120_000, "2 min"), (7_200_000, "2 h"), (172_800_000, "2 days")]
        {
            assert_eq!(duration(ms), text);
        }
        assert_eq!(count(1, "shard", "shards") + &count(0, "shard", "shards"), "1 shard0 shards");
    }
}
