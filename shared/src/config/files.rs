//! `[files]`: pictures and files, their store and their limits. Of gateways and workers.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::{ConfigError, Secret, trimmed};

/// Where the bytes of files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileStoreKind {
    /// Nowhere: users cannot upload.
    None,
    /// In a folder that all gateways and workers see: on one host, or a shared file system.
    Folder,
    /// In a bucket of an S3-compatible store.
    S3,
}

/// `[files]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// `none` (users cannot upload), `folder` or `s3`. Must be equal on all gateways and workers, as must be the other keys
    /// of this section. Switch it on after the workers of version 0.1 are gone, because they drop attachments.
    pub store: FileStoreKind,
    /// With `store = "folder"`: the folder. All gateways and workers must see it, so across hosts take `s3`.
    pub folder: PathBuf,
    /// With `store = "s3"`: the URL of the store, such as `https://s3.eu-central-1.amazonaws.com`.
    #[serde(deserialize_with = "base_url")]
    pub s3_url: String,
    /// The URL of the store as clients reach it, if it is another one.
    #[serde(deserialize_with = "base_url")]
    pub s3_public_url: String,
    /// The bucket.
    pub s3_bucket: String,
    /// Its region.
    pub s3_region: String,
    /// What the names of all objects begin with, such as `im/`.
    pub s3_prefix: String,
    /// The bucket is in the path of URLs, not in their host: nearly all stores but that of AWS need it.
    pub s3_path_style: bool,
    /// The access key. Without one, those of the environment apply: `AWS_ACCESS_KEY_ID`, a web identity, or the role of
    /// the machine.
    pub s3_access_key: String,
    /// Its secret key.
    pub s3_secret_key: Secret,
    /// A file that contains it instead.
    pub s3_secret_key_file: PathBuf,
    /// The key that signs links, at least 32 bytes; equal on all gateways. Required with `store = "folder"` and with
    /// `cdn_base_url`.
    pub links_key: Secret,
    /// A file that contains it instead.
    pub links_key_file: PathBuf,
    /// How long a link is valid, in seconds.
    pub links_valid_s: u32,
    /// What the links to gateways begin with, such as `https://chat.example`. Empty: they are relative, for pages of the
    /// gateway and clients that know its address.
    #[serde(deserialize_with = "base_url")]
    pub base_url: String,
    /// What links begin with instead, if a CDN fetches files from the gateways: `https://cdn.example`. It can check
    /// the signature at its edge (docs/files.md).
    #[serde(deserialize_with = "base_url")]
    pub cdn_base_url: String,
    /// Largest file, in bytes.
    pub bytes_max: u64,
    /// Bytes of a part. Larger files come in parts, so that a client goes on after a lost connection.
    pub part_bytes: u32,
    /// Which media types may be uploaded: `image/png`, `image/*`, `*/*`.
    #[serde(deserialize_with = "trimmed")]
    pub types: Vec<String>,
    /// Uploads of a user per day (UTC); 0 for no limit.
    pub user_uploads_per_day: u32,
    /// Bytes that a user uploads per day (UTC); 0 for no limit.
    pub user_bytes_per_day: u64,
    /// Uploads and downloads that one gateway carries at a time, with `store = "folder"` or a CDN.
    pub transfers_at_once: usize,
    /// Metadata (place, camera, time) is removed from JPEG, PNG and WebP originals; from small pictures it always is.
    pub strip_metadata: bool,
    /// A file that is not sent, and an upload that is not completed, is removed after this time, in seconds.
    pub unused_keep_s: u32,
    /// Pictures that one worker decodes at a time.
    pub pictures_at_once: usize,
    /// A picture with more pixels gets no small picture.
    pub picture_pixels_max: u64,
    /// A picture with more bytes gets no small picture, and keeps its metadata.
    pub picture_bytes_max: u64,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            store: FileStoreKind::None,
            folder: PathBuf::from("/var/lib/im/files"),
            s3_url: String::new(),
            s3_public_url: String::new(),
            s3_bucket: String::new(),
            s3_region: "us-east-1".to_owned(),
            s3_prefix: String::new(),
            s3_path_style: true,
            s3_access_key: String::new(),
            s3_secret_key: Secret::default(),
            s3_secret_key_file: PathBuf::new(),
            links_key: Secret::default(),
            links_key_file: PathBuf::new(),
            links_valid_s: 3_600,
            base_url: String::new(),
            cdn_base_url: String::new(),
            bytes_max: 104_857_600,
            part_bytes: 8_388_608,
            types: vec!["*/*".to_owned()],
            user_uploads_per_day: 1_000,
            user_bytes_per_day: 5_368_709_120,
            transfers_at_once: 256,
            strip_metadata: false,
            unused_keep_s: 86_400,
            pictures_at_once: 1,
            picture_pixels_max: 50_000_000,
            picture_bytes_max: 33_554_432,
        }
    }
}

/// Shortest key of links: the size of the hash of HMAC-SHA256.
const KEY_BYTES_MIN: usize = 32;
/// The smallest part that S3 accepts (but for the last one), and the largest that a gateway takes.
const PART_BYTES: std::ops::RangeInclusive<u32> = 5_242_880..=134_217_728;
/// The most parts that S3 accepts.
const PARTS_MAX: u64 = 10_000;
/// Longest lifetime of a link: that of a signed S3 request.
const LINKS_VALID_S: std::ops::RangeInclusive<u32> = 60..=604_800;

impl Files {
    /// Users can upload.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.store != FileStoreKind::None
    }

    /// Reads secrets from files, and checks all keys.
    ///
    /// # Errors
    /// Names the key.
    pub fn validated(mut self) -> Result<Self, ConfigError> {
        self.s3_secret_key =
            Secret::either("files.s3_secret_key", self.s3_secret_key, &self.s3_secret_key_file)?;
        self.links_key = Secret::either("files.links_key", self.links_key, &self.links_key_file)?;
        if !self.is_on() {
            return Ok(self);
        }
        let missing = |key: &str, is_missing: bool, why: &str| {
            if is_missing { Err(ConfigError::key(key, format!("is missing: {why}"))) } else { Ok(()) }
        };
        let is_s3 = self.store == FileStoreKind::S3;
        missing(
            "files.folder",
            !is_s3 && self.folder.as_os_str().is_empty(),
            "name the folder of the files",
        )?;
        missing("files.s3_url", is_s3 && self.s3_url.is_empty(), "set the URL of the store")?;
        missing("files.s3_bucket", is_s3 && self.s3_bucket.is_empty(), "name the bucket")?;
        let has_half = self.s3_access_key.is_empty() != self.s3_secret_key.is_empty();
        missing("files.s3_secret_key", has_half, "set both s3_access_key and s3_secret_key, or none")?;
        let needs_key = !is_s3 || !self.cdn_base_url.is_empty();
        missing(
            "files.links_key",
            needs_key && self.links_key.is_empty(),
            "set 32 random bytes or more, as by: openssl rand -base64 48",
        )?;
        if !self.links_key.is_empty() {
            self.links_key.at_least("files.links_key", KEY_BYTES_MIN)?;
        }
        let range = |key: &str, ok: bool, why: &str| {
            if ok { Ok(()) } else { Err(ConfigError::key(key, why)) }
        };
        range("files.links_valid_s", LINKS_VALID_S.contains(&self.links_valid_s), "must be 60 to 604800")?;
        range("files.part_bytes", PART_BYTES.contains(&self.part_bytes), "must be 5242880 to 134217728")?;
        let parts = self.bytes_max.div_ceil(u64::from(self.part_bytes));
        range("files.bytes_max", (1..=PARTS_MAX).contains(&parts), "must be 1 to 10000 times part_bytes")?;
        range("files.transfers_at_once", self.transfers_at_once > 0, "must be at least 1")?;
        range("files.pictures_at_once", self.pictures_at_once > 0, "must be at least 1")?;
        range("files.unused_keep_s", self.unused_keep_s >= 60, "must be at least 60")?;
        if let Some(wrong) = self.types.iter().find(|pattern| !is_pattern(pattern)) {
            let why = format!("{wrong:?} is no media type: write image/png, image/* or */*");
            return Err(ConfigError::key("files.types", why));
        }
        Ok(self)
    }

    /// Whether `types` allows `content_type`.
    #[must_use]
    pub fn allows(&self, content_type: &str) -> bool {
        let (kind, _) = content_type.split_once('/').unwrap_or((content_type, ""));
        self.types.iter().any(|pattern| match pattern.split_once('/') {
            Some(("*", _)) => true,
            Some((allowed, "*")) => allowed.eq_ignore_ascii_case(kind),
            _ => pattern.eq_ignore_ascii_case(content_type),
        })
    }
}

fn is_pattern(text: &str) -> bool {
    let is_name = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
    };
    match text.split_once('/') {
        Some(("*", "*")) => true,
        Some((kind, "*")) => is_name(kind),
        Some((kind, name)) => is_name(kind) && is_name(name),
        None => false,
    }
}

/// A URL without query, whose slashes at the end are taken off.
fn base_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let text = text.trim().trim_end_matches('/');
    if text.is_empty() {
        return Ok(String::new());
    }
    match url::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.query().is_none() => Ok(text.to_owned()),
        _ => Err(D::Error::custom("must be a URL that begins with https:// or http://, without a query")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on() -> Files {
        Files { store: FileStoreKind::Folder, links_key: "x".repeat(32).as_str().into(), ..Files::default() }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(Files::default().validated().is_ok());
        assert!(on().validated().is_ok());
        let s3 = Files { store: FileStoreKind::S3, links_key: Secret::default(), ..on() };
        let filled =
            Files { s3_url: "http://127.0.0.1:9".to_owned(), s3_bucket: "b".to_owned(), ..s3.clone() };
        assert!(filled.clone().validated().is_ok());
        for (files, key) in [
            (Files { links_key: Secret::default(), ..on() }, "files.links_key"),
            (Files { links_key: "short".into(), ..on() }, "files.links_key"),
            (Files { cdn_base_url: "https://cdn.example".to_owned(), ..filled.clone() }, "files.links_key"),
            (Files { folder: PathBuf::new(), ..on() }, "files.folder"),
            (s3, "files.s3_url"),
            (Files { s3_bucket: String::new(), ..filled.clone() }, "files.s3_bucket"),
            (Files { s3_access_key: "a".to_owned(), ..filled }, "files.s3_secret_key"),
            (Files { bytes_max: 0, ..on() }, "files.bytes_max"),
            (Files { bytes_max: u64::MAX, ..on() }, "files.bytes_max"),
            (Files { part_bytes: 5, ..on() }, "files.part_bytes"),
            (Files { types: vec!["image".to_owned()], ..on() }, "files.types"),
            (Files { links_valid_s: 1, ..on() }, "files.links_valid_s"),
        ] {
            let error = files.validated().unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
    }

    #[test]
    fn types_are_allowed_by_name_or_by_kind() {
        let files = |types: &[&str]| Files { types: types.iter().map(|t| (*t).to_owned()).collect(), ..on() };
        assert!(files(&["*/*"]).allows("application/pdf"));
        assert!(files(&["image/*", "text/plain"]).allows("image/png"));
        assert!(files(&["image/*", "text/plain"]).allows("text/plain"));
        assert!(!files(&["image/*", "text/plain"]).allows("text/html"));
        assert!(!files(&[]).allows("image/png"));
    }
}
