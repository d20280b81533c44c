//! Signed links to files that gateways serve, and signed addresses for uploads to them.
//!
//! A link has everything that its answer needs, so that it is served without a look into the database:
//!
//! ```text
//! /files/<object>/<original or thumb>/image/png/cat.png?verify=<time>-<signature>
//! ```
//!
//! The signature is the HMAC-SHA256 of the path and the time of issue in seconds, in base64. It is the form that the edge
//! of Cloudflare checks by itself (`is_timed_hmac_valid_v0`), and any CDN that computes an HMAC.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use shared::message::FileId;

use crate::media_type;

/// The first segment of the paths.
pub const PREFIX: &str = "/files";
/// The segment after it in addresses for uploads.
const UPLOADS: &str = "uploads";
/// The parameter with time and signature.
const VERIFY: &str = "verify";
/// Seconds in which all links to a file are equal, so that browsers find the file in their cache.
pub const STEP_S: u64 = 300;
/// Largest difference between the clocks of two gateways, in seconds.
const CLOCKS_DIFFER_S: u64 = 60;
/// What is encoded in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Which bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// As they were uploaded.
    Original,
    /// The small picture.
    Thumb,
}

impl Variant {
    /// Its name in links and in requests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Thumb => "thumb",
        }
    }

    /// The variant of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Original, Self::Thumb].into_iter().find(|variant| variant.name() == name)
    }
}

/// What a link leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTarget {
    /// The bytes.
    pub object_id: FileId,
    /// Which ones.
    pub variant: Variant,
    /// The media type of the answer.
    pub content_type: String,
    /// The name under which it is saved.
    pub name: String,
}

/// Bytes that a gateway takes: a whole file or one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadTarget {
    /// The bytes.
    pub object_id: FileId,
    /// The number of the part, from 1; a file in one piece is part 1.
    pub part: u32,
    /// How many bytes it has.
    pub size: u64,
}

/// Why a link is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It was altered, or signed with another key.
    #[error("this link was altered or is not of this server: ask for a new one")]
    Altered,
    /// Its time is over.
    #[error("this link has expired: ask for a new one")]
    Expired,
}

/// The key of links.
#[derive(Clone)]
pub struct LinkKey(hmac::Key);

impl std::fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkKey")
    }
}

impl LinkKey {
    /// The key with the bytes of `secret`.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// A link to `target`, issued at `now_s`, without scheme and host. It may be valid for up to [`STEP_S`] less than the
    /// lifetime of links that are issued then.
    #[must_use]
    pub fn link(&self, target: &LinkTarget, now_s: u64) -> String {
        let LinkTarget { object_id, variant, content_type, name } = target;
        let content_type = content_type.split('/').map(encoded).collect::<Vec<_>>().join("/");
        let path = format!("{PREFIX}/{object_id}/{}/{content_type}/{}", variant.name(), encoded(name));
        self.signed(&path, now_s - now_s % STEP_S)
    }

    /// An address for the upload of `target`, which is valid until `until_s`.
    #[must_use]
    pub fn upload(&self, target: &UploadTarget, until_s: u64) -> String {
        let UploadTarget { object_id, part, size } = target;
        self.signed(&format!("{PREFIX}/{UPLOADS}/{object_id}/{part}/{size}"), until_s)
    }

    /// What a link leads to. `valid_s`: the lifetime of links in seconds.
    ///
    /// # Errors
    /// [`LinkError`]
    pub fn check_link(
        &self,
        path: &str,
        query: &str,
        now_s: u64,
        valid_s: u64,
    ) -> Result<LinkTarget, LinkError> {
        let issued = self.check(path, query)?;
        if now_s > issued.saturating_add(valid_s + STEP_S) || issued > now_s + CLOCKS_DIFFER_S {
            return Err(LinkError::Expired);
        }
        parse_link(path).ok_or(LinkError::Altered)
    }

    /// What is uploaded to this address.
    ///
    /// # Errors
    /// [`LinkError`]
    pub fn check_upload(&self, path: &str, query: &str, now_s: u64) -> Result<UploadTarget, LinkError> {
        let until = self.check(path, query)?;
        if now_s > until {
            return Err(LinkError::Expired);
        }
        parse_upload(path).ok_or(LinkError::Altered)
    }

    fn signed(&self, path: &str, time_s: u64) -> String {
        let tag = hmac::sign(&self.0, format!("{path}{time_s}").as_bytes());
        let tag = STANDARD.encode(tag.as_ref());
        format!("{path}?{VERIFY}={time_s}-{}", utf8_percent_encode(&tag, SEGMENT))
    }

    /// The time in a link whose signature is right.
    fn check(&self, path: &str, query: &str) -> Result<u64, LinkError> {
        let value = query.strip_prefix(VERIFY).and_then(|rest| rest.strip_prefix('='));
        let (time, _) = value.and_then(|value| value.split_once('-')).ok_or(LinkError::Altered)?;
        let time_s: u64 = time.parse().map_err(|_| LinkError::Altered)?;
        // The whole text, not what it decodes to: there is one link for each signature.
        let expected = self.signed(path, time_s);
        verify_slices_are_equal(expected.as_bytes(), format!("{path}?{query}").as_bytes())
            .map_err(|_| LinkError::Altered)?;
        Ok(time_s)
    }
}

fn encoded(segment: &str) -> String {
    utf8_percent_encode(segment, SEGMENT).to_string()
}

/// The header `Content-Disposition` of an answer: browsers save everything that they could run.
#[must_use]
pub fn disposition(target: &LinkTarget) -> String {
    let kind = if media_type::is_shown(&target.content_type) { "inline" } else { "attachment" };
    // For old clients the name in ASCII, and for all others the name itself (RFC 6266).
    let is_plain = |c: char| (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\');
    let ascii: String = target.name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    format!("{kind}; filename=\"{ascii}\"; filename*=UTF-8''{}", encoded(&target.name))
}

/// Whether a path is an address for uploads.
#[must_use]
pub fn is_upload(path: &str) -> bool {
    segments(path).next() == Some(UPLOADS)
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix(PREFIX).unwrap_or_default().split('/').skip(1)
}

fn parse_link(path: &str) -> Option<LinkTarget> {
    let mut segments = segments(path);
    let mut decoded = || percent_decode_str(segments.next()?).decode_utf8().ok();
    let object_id = FileId::parse(&decoded()?).ok()?;
    let variant = Variant::parse(&decoded()?)?;
    let content_type = format!("{}/{}", decoded()?, decoded()?);
    let name = decoded()?.into_owned();
    media_type::is_well_formed(&content_type).then_some(LinkTarget { object_id, variant, content_type, name })
}

fn parse_upload(path: &str) -> Option<UploadTarget> {
    let mut segments = segments(path).skip(1);
    let object_id = FileId::parse(segments.next()?).ok()?;
    let part = segments.next()?.parse().ok()?;
    Some(UploadTarget { object_id, part, size: segments.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn target(name: &str) -> LinkTarget {
        LinkTarget {
            object_id: FileId::parse(&"0a".repeat(16)).unwrap(),
            variant: Variant::Thumb,
            content_type: "image/svg+xml".to_owned(),
            name: name.to_owned(),
        }
    }

    fn checked(key: &LinkKey, link: &str, now_s: u64) -> Result<LinkTarget, LinkError> {
        let (path, query) = link.split_once('?').unwrap_or((link, ""));
        key.check_link(path, query, now_s, 3_600)
    }

    #[test]
    fn the_form_is_the_one_that_cdns_check() {
        // By: printf '%s' "<path><time>" | openssl dgst -sha256 -hmac <key> -binary | base64
        let link = LinkKey::new("secret").signed("/files/x", 1_484_063_787);
        assert_eq!(link, "/files/x?verify=1484063787-q4v1VvmK0Q%2FhiRZ3qDPiktTLUjFZmjHmod3%2Bx2nqn74%3D");
    }

    #[test]
    fn a_link_is_valid_for_its_time_and_the_same_within_a_step() {
        let key = LinkKey::new(SECRET);
        let link = key.link(&target("a b.png"), 90_000);
        assert_eq!(link, key.link(&target("a b.png"), 90_000 + STEP_S - 1));
        assert_eq!(checked(&key, &link, 90_000), Ok(target("a b.png")));
        assert!(checked(&key, &link, 90_000 + 3_600 + STEP_S).is_ok());
        assert_eq!(checked(&key, &link, 90_000 + 3_601 + STEP_S), Err(LinkError::Expired));
        assert_eq!(checked(&key, &link, 80_000), Err(LinkError::Expired));
        assert_eq!(checked(&LinkKey::new("another"), &link, 90_000), Err(LinkError::Altered));
    }

    #[test]
    fn an_address_for_uploads_fixes_the_part_and_the_length() {
        let key = LinkKey::new(SECRET);
        let target = UploadTarget { object_id: target("x").object_id, part: 3, size: 77 };
        let address = key.upload(&target, 1_000);
        let (path, query) = address.split_once('?').unwrap();
        assert!(is_upload(path));
        assert_eq!(key.check_upload(path, query, 1_000), Ok(target));
        assert_eq!(key.check_upload(path, query, 1_001), Err(LinkError::Expired));
        assert_eq!(key.check_upload(&path.replace("/77", "/78"), query, 1_000), Err(LinkError::Altered));
        assert_eq!(key.check_link(path, query, 1_000, 3_600), Err(LinkError::Altered));
    }

    #[test]
    fn only_what_is_shown_is_not_saved() {
        let shown = LinkTarget { content_type: "image/png".to_owned(), ..target("K\u{f6}ln \"1\".png") };
        let expected = "inline; filename=\"K_ln _1_.png\"; filename*=UTF-8''K%C3%B6ln%20%221%22.png";
        assert_eq!(disposition(&shown), expected);
        assert!(disposition(&target("a.svg")).starts_with("attachment;"));
    }

    proptest! {
        #[test]
        fn an_altered_link_is_refused(name in "\\PC{1,40}", at: prop::sample::Index, bit in 0u8..7) {
            let key = LinkKey::new(SECRET);
            let link = key.link(&target(&name), 300_000);
            prop_assert_eq!(checked(&key, &link, 300_000), Ok(target(&name)));
            let mut bytes = link.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(altered) = String::from_utf8(bytes) {
                prop_assert!(checked(&key, &altered, 300_000).is_err(), "{}", altered);
            }
        }
    }
}
