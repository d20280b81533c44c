//! Names of files that are harmless wherever they are shown or saved.

use shared::message::{FILE_NAME_BYTES_MAX, FILE_NAME_CHARS_MAX};

/// The name of a file whose own name has nothing left.
const UNNAMED: &str = "file";

/// A safe form of `name`. It removes folders, control characters and characters that change the direction of text, and
/// replaces characters that file systems or quoted headers forbid. A name that is too long loses characters before its
/// ending.
#[must_use]
pub fn safe(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String =
        name.chars().filter(|c| !is_removed(*c)).map(|c| if is_replaced(c) { '_' } else { c }).collect();
    // Windows drops spaces and dots at the end; a dot at the beginning hides the file.
    let kept = kept.trim().trim_end_matches(['.', ' ']).trim_start_matches('.').trim_start();
    let (stem, ending) = split_ending(kept);
    let stem = if is_reserved(stem) { format!("_{stem}") } else { stem.to_owned() };
    let room = (FILE_NAME_CHARS_MAX - ending.chars().count(), FILE_NAME_BYTES_MAX - ending.len());
    let stem = shortened(&stem, room);
    if stem.is_empty() { format!("{UNNAMED}{ending}") } else { format!("{stem}{ending}") }
}

/// Control and format characters, among them those that turn the direction of writing, and private or unassigned ones.
fn is_removed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{ffff}'
            | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}')
}

/// What Windows forbids in names, and what would end a quoted value or begin another one.
fn is_replaced(c: char) -> bool {
    matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | ';' | '%' | '\'' | '`' | '$')
}

/// Names of devices on Windows, whatever their ending.
fn is_reserved(stem: &str) -> bool {
    let upper = stem.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let is_numbered = |name: &str| {
        upper
            .strip_prefix(name)
            .is_some_and(|rest| rest.len() == 1 && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    matches!(upper.as_str(), "CON" | "PRN" | "AUX" | "NUL") || is_numbered("COM") || is_numbered("LPT")
}

/// The name without its ending, and the ending with its dot, if it is short enough for one.
fn split_ending(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= 17 => name.split_at(at),
        _ => (name, ""),
    }
}

fn shortened(text: &str, (chars, bytes): (usize, usize)) -> String {
    let mut short = String::new();
    for c in text.chars().take(chars) {
        if short.len() + c.len_utf8() > bytes {
            break;
        }
        short.push(c);
    }
    short.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn harmful_parts_of_names_are_removed() {
        for (name, expected) in [
            ("cat.png", "cat.png"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Windows\\win.ini", "win.ini"),
            ("..", "file"),
            ("", "file"),
            (" . ", "file"),
            (".htaccess", "htaccess"),
            ("a\0b\r\nc.txt", "abc.txt"),
            ("invoice\u{202e}gpj.exe", "invoicegpj.exe"),
            ("\u{2066}x\u{2069}\u{200b}.pdf", "x.pdf"),
            ("a\"b;c%d.png", "a_b_c_d.png"),
            ("CON.txt", "_CON.txt"),
            ("com1", "_com1"),
            ("Gr\u{fc}\u{df}e aus K\u{f6}ln.jpg", "Gr\u{fc}\u{df}e aus K\u{f6}ln.jpg"),
            ("\u{5199}\u{771f}.jpg", "\u{5199}\u{771f}.jpg"),
            ("name. . .", "name"),
            ("a/", "file"),
        ] {
            assert_eq!(safe(name), expected, "{name:?}");
        }
    }

    #[test]
    fn a_long_name_keeps_its_ending() {
        let long = safe(&format!("{}.jpeg", "\u{1f600}".repeat(300)));
        assert!(long.ends_with(".jpeg") && long.len() <= FILE_NAME_BYTES_MAX, "{long}");
        assert_eq!(safe(&format!("{}.png", "x".repeat(500))).chars().count(), FILE_NAME_CHARS_MAX);
    }

    proptest! {
        #[test]
        fn every_name_is_harmless_and_stays_as_it_is_the_second_time(name in ".{0,300}") {
            let once = safe(&name);
            prop_assert!(!once.is_empty() && once.len() <= FILE_NAME_BYTES_MAX);
            prop_assert!(once.chars().count() <= FILE_NAME_CHARS_MAX);
            prop_assert!(!once.contains(['/', '\\', '"', '\0']) && !once.starts_with('.'));
            prop_assert!(!once.chars().any(is_removed));
            prop_assert_eq!(safe(&once), once);
        }
    }
}
