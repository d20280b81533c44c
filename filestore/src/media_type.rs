//! What a file is: by its content, and what it was announced as where the content says nothing.

use shared::message::CONTENT_TYPE_BYTES_MAX;

/// Bytes at the beginning of a file that decide about its type.
pub const HEAD_BYTES: usize = 8_192;
/// Any bytes.
pub const BINARY: &str = "application/octet-stream";
const SVG: &str = "image/svg+xml";

/// Names that mean the same; the first of each row is the one that is kept.
const ALIASES: &[&[&str]] = &[
    &["image/jpeg", "image/jpg", "image/pjpeg"],
    &["image/heif", "image/heic", "image/heif-sequence", "image/heic-sequence"],
    &["image/bmp", "image/x-ms-bmp", "image/x-bmp"],
    &["image/vnd.microsoft.icon", "image/x-icon"],
    &["audio/mpeg", "audio/mp3"],
    &["audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"],
    &["audio/flac", "audio/x-flac"],
    &["audio/aiff", "audio/x-aiff"],
    &["video/x-msvideo", "video/avi", "video/msvideo"],
    &["application/zip", "application/x-zip-compressed", "application/x-zip"],
    &["application/gzip", "application/x-gzip"],
    &["application/vnd.rar", "application/x-rar-compressed", "application/x-rar"],
    &["application/rtf", "text/rtf"],
    &["application/pdf", "application/x-pdf"],
];

/// Types that share a container, so that the content does not tell one from the other.
const CONTAINERS: &[&[&str]] = &[
    &[
        "video/mp4",
        "audio/mp4",
        "video/x-m4v",
        "audio/m4a",
        "audio/x-m4a",
        "video/quicktime",
        "video/3gpp",
        "audio/3gpp",
    ],
    &["audio/ogg", "video/ogg", "audio/opus", "application/ogg"],
    &["video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska"],
];

/// Containers of formats that have types of their own, such as those of office programs.
const WRAPPERS: &[&str] = &["application/zip", "application/x-ole-storage", "application/gzip"];

/// The content is not what was announced. Its `Display` is meant for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the content is {found}, not {announced} as announced")]
pub struct Mismatch {
    announced: String,
    found: String,
}

/// The type that an upload is announced with, in lower case and without parameters. `None` if the text is
/// not a media type.
#[must_use]
pub fn normalized(announced: &str) -> Option<String> {
    let essence = announced.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let essence = if essence.is_empty() { BINARY.to_owned() } else { essence };
    is_well_formed(&essence).then(|| canonical(&essence).to_owned())
}

/// Whether a text is a media type without parameters.
#[must_use]
pub fn is_well_formed(text: &str) -> bool {
    let is_name = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
    };
    text.len() <= CONTENT_TYPE_BYTES_MAX
        && text.split_once('/').is_some_and(|(kind, name)| is_name(kind) && is_name(name))
}

/// The type of a file that was announced as `announced` (normalized) and begins with `head`.
///
/// # Errors
/// [`Mismatch`]
pub fn judge(announced: &str, head: &[u8]) -> Result<String, Mismatch> {
    let found = sniff(head);
    let is_unverified = |found: Option<&str>| match found {
        // The content of such a file has a beginning by which it would be known.
        None => infer::is_mime_supported(announced) && !is_text_type(announced),
        Some(found) => !agree(announced, found),
    };
    if announced == BINARY {
        return Ok(found.unwrap_or(BINARY).to_owned());
    }
    if is_unverified(found) {
        let found = found.unwrap_or(if is_text(head) { "text" } else { "something else" }).to_owned();
        return Err(Mismatch { announced: announced.to_owned(), found });
    }
    Ok(match found {
        // Nothing says that it is a picture, a sound or a film: it is not shown as one.
        None if is_visual(announced) => BINARY.to_owned(),
        Some(SVG) => SVG.to_owned(),
        _ => announced.to_owned(),
    })
}

/// Whether a browser shows or plays it without running anything: all else is saved.
#[must_use]
pub fn is_shown(content_type: &str) -> bool {
    is_visual(content_type) && content_type != SVG
}

/// Whether workers can decode it.
#[must_use]
pub fn is_decoded(content_type: &str) -> bool {
    matches!(content_type, "image/png" | "image/jpeg" | "image/gif" | "image/webp")
}

fn is_visual(content_type: &str) -> bool {
    ["image/", "audio/", "video/"].iter().any(|kind| content_type.starts_with(kind))
}

fn canonical(name: &str) -> &str {
    ALIASES.iter().find(|row| row.contains(&name)).map_or(name, |row| row[0])
}

fn is_text_type(name: &str) -> bool {
    name.starts_with("text/") || name.ends_with("+xml") || name.ends_with("+json") || name.ends_with("/xml")
}

fn agree(announced: &str, found: &str) -> bool {
    let in_one = |rows: &[&[&str]]| rows.iter().any(|row| row.contains(&announced) && row.contains(&found));
    let is_wrapped = WRAPPERS.contains(&found)
        && announced.starts_with("application/")
        && !infer::is_mime_supported(announced);
    match found {
        _ if announced == found || in_one(CONTAINERS) || is_wrapped => true,
        SVG => announced == SVG,
        "text/html" => announced == "application/xhtml+xml",
        "text/xml" => is_text_type(announced) && announced != SVG && announced != "text/html",
        "text/x-shellscript" => !is_visual(announced) && !infer::is_mime_supported(announced),
        // Formats of office programs, which older detectors take for their container.
        _ => found.starts_with("application/vnd.openxml") && announced == "application/zip",
    }
}

/// The type that the content says; `None` if it says nothing.
fn sniff(head: &[u8]) -> Option<&'static str> {
    if is_svg(head) {
        return Some(SVG);
    }
    let found = infer::get(head)?.mime_type();
    // The table has static names only, so that the found one can be replaced by one of its row.
    Some(ALIASES.iter().find(|row| row.contains(&found)).map_or(found, |row| row[0]))
}

/// Whether it is a drawing: `<svg` as the first element.
fn is_svg(head: &[u8]) -> bool {
    let head = &head[..head.len().min(4_096)];
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with("<svg") {
        return true;
    }
    let is_prolog =
        text.starts_with("<?xml") || text.starts_with("<!--") || text.starts_with("<!doctype svg");
    is_prolog && text.contains("<svg") && !text.contains("<html")
}

fn is_text(head: &[u8]) -> bool {
    // The last character may be cut.
    let valid = match std::str::from_utf8(head) {
        Ok(_) => head.len(),
        Err(error) => error.valid_up_to(),
    };
    head.len() - valid < 4 && !head.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    const GIF_WITH_SCRIPT: &[u8] = b"GIF89a/*\x01\0*/=1;alert(1)//";
    const MP4: &[u8] = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2";

    #[test]
    fn the_content_decides() {
        for (announced, head, judged) in [
            ("image/png", PNG, "image/png"),
            ("application/octet-stream", PNG, "image/png"),
            ("application/octet-stream", b"\x01\x02".as_slice(), BINARY),
            // A picture that is a script, too: it is served as a picture, and never runs.
            ("image/gif", GIF_WITH_SCRIPT, "image/gif"),
            ("audio/mp4", MP4, "audio/mp4"),
            ("video/mp4", MP4, "video/mp4"),
            ("text/plain", b"hello".as_slice(), "text/plain"),
            ("text/html", b"<!DOCTYPE html><html>".as_slice(), "text/html"),
            ("image/svg+xml", b"<?xml version='1.0'?><svg/>".as_slice(), SVG),
            ("application/json", b"{}".as_slice(), "application/json"),
            ("application/pdf", b"%PDF-1.7".as_slice(), "application/pdf"),
            // By their endings, browsers take TypeScript for a film: it is saved, and never played.
            ("video/mp2t", b"export const a = 1;".as_slice(), BINARY),
            (
                "application/vnd.android.package-archive",
                b"PK\x03\x04".as_slice(),
                "application/vnd.android.package-archive",
            ),
        ] {
            assert_eq!(judge(announced, head), Ok(judged.to_owned()), "{announced}");
        }
        for (announced, head) in [
            ("image/png", b"<!DOCTYPE html><html><script>alert(1)</script>".as_slice()),
            ("image/png", b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>".as_slice()),
            ("image/png", b"\xff\xd8\xff\xe0".as_slice()),
            ("image/png", b"".as_slice()),
            ("image/jpeg", GIF_WITH_SCRIPT),
            ("text/plain", PNG),
            ("text/plain", b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff".as_slice()),
            ("text/plain", b"<html><body>".as_slice()),
            ("application/pdf", b"hello".as_slice()),
            (
                "video/mp4",
                b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm"
                    .as_slice(),
            ),
        ] {
            assert!(judge(announced, head).is_err(), "{announced}: {:?}", judge(announced, head));
        }
    }

    #[test]
    fn announced_types_are_normalized() {
        assert_eq!(normalized("Image/JPG; q=1").as_deref(), Some("image/jpeg"));
        assert_eq!(normalized("").as_deref(), Some(BINARY));
        assert_eq!(normalized("text/plain;charset=utf-8").as_deref(), Some("text/plain"));
        for wrong in
            ["image", "image/", "/png", "a b/c", "image/png\r\nx: y", &format!("a/{}", "x".repeat(70))]
        {
            assert_eq!(normalized(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn only_pictures_sounds_and_films_are_shown() {
        for shown in ["image/png", "audio/mpeg", "video/mp4"] {
            assert!(is_shown(shown));
        }
        for saved in [SVG, "text/html", "application/pdf", "application/xhtml+xml", BINARY] {
            assert!(!is_shown(saved));
        }
    }
}
