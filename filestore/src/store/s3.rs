//! An S3-compatible store.
//!
//! Requests of this process go through `object_store`, which repeats them and finds credentials. Requests that clients make,
//! and those about parts, are signed by `rusty-s3`: it can fix the length of an upload and the headers of an answer.

use std::ops::Range;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt as _};
use jiff::Timestamp;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    ClientOptions, GetOptions, GetRange, ObjectStore as _, ObjectStoreExt as _, PutPayload, RetryConfig,
};
use rusty_s3::actions::{CreateMultipartUpload, ListParts};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use shared::config::Files;
use shared::message::FileId;
use url::Url;

use super::error::StoreError;
use super::types::{ByteStream, Incoming, Part};
use crate::link::{LinkTarget, STEP_S, Variant, disposition};

/// For one request.
const TIMEOUT: Duration = Duration::from_secs(20);
/// For a request with its repetitions.
const RETRIES: (usize, Duration) = (3, Duration::from_secs(15));
/// The lifetime of signatures of requests that this process makes.
const OWN_VALID: Duration = Duration::from_secs(300);
/// Parts that one list has.
const PARTS_LISTED: u16 = 1_000;

/// A bucket.
#[derive(Debug)]
pub struct S3 {
    store: AmazonS3,
    client: reqwest::Client,
    /// As this process reaches it.
    bucket: Bucket,
    /// As clients reach it.
    public: Bucket,
    prefix: String,
}

impl S3 {
    pub(super) fn open(config: &Files) -> Result<Self, StoreError> {
        let url = &config.s3_url;
        let style = config.s3_path_style;
        let options = ClientOptions::new().with_timeout(TIMEOUT).with_allow_http(url.starts_with("http://"));
        let retry =
            RetryConfig { max_retries: RETRIES.0, retry_timeout: RETRIES.1, ..RetryConfig::default() };
        // Without keys, those of the environment and of the machine.
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&config.s3_bucket)
            .with_region(&config.s3_region)
            .with_client_options(options)
            .with_retry(retry)
            .with_virtual_hosted_style_request(!style);
        builder = builder.with_endpoint(match style {
            true => url.clone(),
            // It takes the address of the bucket here.
            false => url.replacen("://", &format!("://{}.", config.s3_bucket), 1),
        });
        if !config.s3_access_key.is_empty() {
            builder = builder
                .with_access_key_id(&config.s3_access_key)
                .with_secret_access_key(config.s3_secret_key.expose());
        }
        let unusable =
            |error: &dyn std::error::Error| StoreError::Config(format!("[files], the S3 store: {error}"));
        let store = builder.build().map_err(|error| unusable(&error))?;
        let bucket = |url: &str| {
            let url = Url::parse(url).map_err(|error| unusable(&error))?;
            let style = if style { UrlStyle::Path } else { UrlStyle::VirtualHost };
            Bucket::new(url, style, config.s3_bucket.clone(), config.s3_region.clone())
                .map_err(|error| unusable(&error))
        };
        let public = if config.s3_public_url.is_empty() { url } else { &config.s3_public_url };
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        Ok(Self {
            store,
            client,
            bucket: bucket(url)?,
            public: bucket(public)?,
            prefix: config.s3_prefix.clone(),
        })
    }

    fn key(&self, folder: &str, object_id: &FileId) -> String {
        format!("{}{folder}/{object_id}", self.prefix)
    }

    fn kept(&self, object_id: &FileId, variant: Variant) -> Path {
        let folder = match variant {
            Variant::Original => "objects",
            Variant::Thumb => "thumbs",
        };
        Path::from(self.key(folder, object_id))
    }

    fn incoming(&self, object_id: &FileId) -> Path {
        Path::from(self.key("incoming", object_id))
    }

    async fn credentials(&self) -> Result<Credentials, StoreError> {
        let found = self.store.credentials().get_credential().await?;
        Ok(match &found.token {
            Some(token) => Credentials::new_with_token(&found.key_id, &found.secret_key, token),
            None => Credentials::new(&found.key_id, &found.secret_key),
        })
    }

    pub(super) async fn check(&self) -> Result<(), StoreError> {
        let name = Path::from(format!("{}check/{}", self.prefix, uuid::Uuid::new_v4().simple()));
        self.store.put(&name, PutPayload::from_static(b"")).await?;
        Ok(self.store.delete(&name).await?)
    }

    pub(super) async fn begin(&self, object_id: &FileId) -> Result<String, StoreError> {
        let (credentials, key) = (self.credentials().await?, self.key("objects", object_id));
        let url = self.bucket.create_multipart_upload(Some(&credentials), &key).sign(OWN_VALID);
        let text = self.text(self.client.post(url)).await?;
        let parsed = CreateMultipartUpload::parse_response(&text).map_err(|error| unreadable(&error))?;
        Ok(parsed.upload_id().to_owned())
    }

    async fn text(&self, request: reqwest::RequestBuilder) -> Result<String, StoreError> {
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        match status.as_u16() {
            200..=299 => Ok(text),
            404 => Err(StoreError::NotFound),
            _ => Err(StoreError::S3(format!("{status}: {}", text.chars().take(300).collect::<String>()))),
        }
    }

    pub(super) async fn upload_url(
        &self,
        incoming: Incoming<'_>,
        part: u32,
        size: u64,
        valid: Duration,
    ) -> Result<String, StoreError> {
        let credentials = self.credentials().await?;
        // The length is part of the signature: the store takes no other number of bytes.
        let length = size.to_string();
        let url = if let Some(upload_id) = incoming.upload_id {
            let key = self.key("objects", incoming.object_id);
            let number = u16::try_from(part).unwrap_or(u16::MAX);
            let mut action = self.public.upload_part(Some(&credentials), &key, number, upload_id);
            action.headers_mut().insert("content-length", length);
            action.sign(valid)
        } else {
            let key = self.key("incoming", incoming.object_id);
            let mut action = self.public.put_object(Some(&credentials), &key);
            action.headers_mut().insert("content-length", length);
            action.sign(valid)
        };
        Ok(url.into())
    }

    pub(super) async fn received(&self, incoming: Incoming<'_>) -> Result<Vec<Part>, StoreError> {
        let Some(upload_id) = incoming.upload_id else {
            return match self.store.head(&self.incoming(incoming.object_id)).await {
                Ok(meta) => Ok(vec![Part { number: 1, size: meta.size, etag: String::new() }]),
                Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
                Err(error) => Err(error.into()),
            };
        };
        let (credentials, key) = (self.credentials().await?, self.key("objects", incoming.object_id));
        let (mut parts, mut after) = (Vec::new(), None);
        loop {
            let mut action = self.bucket.list_parts(Some(&credentials), &key, upload_id);
            action.set_max_parts(PARTS_LISTED);
            if let Some(after) = after {
                action.set_part_number_marker(after);
            }
            let text = match self.text(self.client.get(action.sign(OWN_VALID))).await {
                // Some stores know an upload only after its first part.
                Err(StoreError::NotFound) => return Ok(parts),
                other => other?,
            };
            let page = ListParts::parse_response(&text).map_err(|error| unreadable(&error))?;
            parts.extend(page.parts.into_iter().map(|part| Part {
                number: part.number.into(),
                size: part.size,
                etag: part.etag,
            }));
            match page.next_part_number_marker {
                Some(next) if after.is_none_or(|after| next > after) => after = Some(next),
                _ => return Ok(parts),
            }
        }
    }

    pub(super) async fn keep(&self, incoming: Incoming<'_>, parts: &[Part]) -> Result<(), StoreError> {
        let object_id = incoming.object_id;
        if let Some(upload_id) = incoming.upload_id {
            let (credentials, key) = (self.credentials().await?, self.key("objects", object_id));
            let etags = parts.iter().map(|part| part.etag.as_str());
            let action = self.bucket.complete_multipart_upload(Some(&credentials), &key, upload_id, etags);
            let url = action.sign(OWN_VALID);
            let text = self.text(self.client.post(url).body(action.body())).await?;
            // The store may find an error after it has said 200.
            if text.contains("<Error>") {
                return Err(StoreError::S3(text.chars().take(300).collect()));
            }
            return Ok(());
        }
        // The store copies: no byte comes here.
        let arrived = self.incoming(object_id);
        self.store.copy(&arrived, &self.kept(object_id, Variant::Original)).await?;
        Ok(self.store.delete(&arrived).await?)
    }

    pub(super) async fn size(&self, object_id: &FileId, variant: Variant) -> Result<u64, StoreError> {
        Ok(self.store.head(&self.kept(object_id, variant)).await?.size)
    }

    pub(super) async fn read(
        &self,
        object_id: &FileId,
        variant: Variant,
        range: Range<u64>,
    ) -> Result<ByteStream, StoreError> {
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let found = self.store.get_opts(&self.kept(object_id, variant), options).await?;
        Ok(found.into_stream().map(|piece| piece.map_err(StoreError::from)).boxed())
    }

    pub(super) async fn write(
        &self,
        object_id: &FileId,
        variant: Variant,
        bytes: Vec<u8>,
    ) -> Result<(), StoreError> {
        self.store.put(&self.kept(object_id, variant), bytes.into()).await?;
        Ok(())
    }

    pub(super) async fn remove(&self, incoming: Incoming<'_>) -> Result<(), StoreError> {
        let object_id = incoming.object_id;
        if let Some(upload_id) = incoming.upload_id {
            let (credentials, key) = (self.credentials().await?, self.key("objects", object_id));
            let url = self.bucket.abort_multipart_upload(Some(&credentials), &key, upload_id).sign(OWN_VALID);
            found(self.text(self.client.delete(url)).await.map(drop))?;
        }
        let all = [
            self.kept(object_id, Variant::Original),
            self.kept(object_id, Variant::Thumb),
            self.incoming(object_id),
        ];
        for path in all {
            found(self.store.delete(&path).await.map_err(StoreError::from))?;
        }
        Ok(())
    }

    pub(super) async fn link(
        &self,
        target: &LinkTarget,
        now_s: u64,
        valid_s: u64,
    ) -> Result<String, StoreError> {
        let credentials = self.credentials().await?;
        let path = self.kept(&target.object_id, target.variant);
        let mut action = self.public.get_object(Some(&credentials), path.as_ref());
        let query = action.query_mut();
        query.insert("response-content-type", &target.content_type);
        query.insert("response-content-disposition", disposition(target));
        query.insert("response-cache-control", format!("private, max-age={valid_s}, immutable"));
        // The same link for some minutes, so that browsers find the file in their cache.
        let issued = i64::try_from(now_s - now_s % STEP_S).unwrap_or_default();
        let issued = Timestamp::from_second(issued).map_err(|error| unreadable(&error))?;
        Ok(action.sign_with_time(Duration::from_secs(valid_s + STEP_S), &issued).into())
    }

    pub(super) fn objects(&self) -> BoxStream<'static, Result<(FileId, u64), StoreError>> {
        let found = self.store.list(Some(&Path::from(format!("{}objects", self.prefix))));
        found
            .filter_map(|meta| async move {
                match meta {
                    Ok(meta) => Some(Ok((FileId::parse(meta.location.filename()?).ok()?, meta.size))),
                    Err(error) => Some(Err(error.into())),
                }
            })
            .boxed()
    }

    pub(super) async fn sweep_incoming(&self, age: Duration, count: usize) -> Result<usize, StoreError> {
        let mut found = self.store.list(Some(&Path::from(format!("{}incoming", self.prefix))));
        let mut removed = 0;
        while let Some(meta) = found.next().await {
            let meta = meta?;
            let written = Duration::from_secs(meta.last_modified.timestamp().unsigned_abs());
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            if removed == count {
                break;
            }
            if now.saturating_sub(written) > age {
                self.store.delete(&meta.location).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn unreadable(error: &dyn std::error::Error) -> StoreError {
    StoreError::S3(format!("an unreadable answer: {error}"))
}

/// What is not there need not be removed.
fn found(removed: Result<(), StoreError>) -> Result<(), StoreError> {
    match removed {
        Err(StoreError::NotFound) => Ok(()),
        other => other,
    }
}
