//! The export of spans by OTLP over HTTP, in the background.
//!
//! The exporter belongs to the process, as the recorder of metrics does. Its queue is bounded: at the limit further spans
//! are dropped and counted. A batch that the collector does not accept is dropped and counted as well, and not sent again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    Protocol, SpanExporter as OtlpExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter as _, SpanProcessor as _,
};
use reqwest::Url;
use tokio::runtime::Handle;

use super::failures::CountedExporter;
use crate::config::ConfigError;
use crate::metrics::TRACE_SPANS_LOST;

/// Spans that wait or are being exported. At the limit, further ones are dropped.
const QUEUE_SPANS_MAX: usize = 8_192;
/// Spans of one request.
const BATCH_SPANS_MAX: usize = 512;
/// How often waiting spans are exported.
const EXPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for an answer of the collector.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of the collector's answer that are looked at.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long the last spans may take when the process stops.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

static EXPORT: OnceLock<Running> = OnceLock::new();

#[derive(Debug)]
struct Running {
    processor: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
}

/// Whether this process exports traces.
#[must_use]
pub fn is_exporting() -> bool {
    EXPORT.get().is_some()
}

/// Where traces are exported to, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct TraceSettings<'s> {
    /// `traces.otlp_endpoint`; empty: nowhere.
    pub endpoint: &'s str,
    /// `traces.service_name`; empty: `program`.
    pub service_name: &'s str,
    /// The name of the program.
    pub program: &'static str,
    /// The id of the process.
    pub instance: &'s str,
}

impl TraceSettings<'_> {
    /// Checks `traces.otlp_endpoint`.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(endpoint: &str) -> Result<(), ConfigError> {
        traces_url(endpoint).map(drop)
    }
}

/// The address that spans are sent to, if there is one.
fn traces_url(endpoint: &str) -> Result<Option<String>, ConfigError> {
    if endpoint.is_empty() {
        return Ok(None);
    }
    let invalid = |why: String| ConfigError::key("traces.otlp_endpoint", why);
    let url = Url::parse(endpoint).map_err(|error| invalid(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || url.query().is_some() {
        return Err(invalid("is not http://host:port or https://host:port".to_owned()));
    }
    Ok(Some(format!("{}/v1/traces", endpoint.trim_end_matches('/'))))
}

/// The export of a running process.
#[derive(Debug, Clone, Copy)]
pub struct TraceExport(());

impl TraceExport {
    /// Starts the export, if an endpoint is configured. Once per process; further calls change nothing.
    ///
    /// # Errors
    /// Names the key of an address that cannot be used.
    pub fn start(settings: &TraceSettings<'_>) -> Result<Option<Self>, ConfigError> {
        let Some(url) = traces_url(settings.endpoint)? else { return Ok(None) };
        if EXPORT.get().is_none() {
            let running = running(settings, &url)
                .map_err(|error| ConfigError::key("traces.otlp_endpoint", error.to_string()))?;
            tracing::info!(%url, "Traces of sampled messages are exported to {url}");
            let _ = EXPORT.set(running);
        }
        Ok(Some(Self(())))
    }

    /// Exports what waits, for at most two seconds, and ends the export.
    pub async fn finish(self) {
        let flushed = tokio::task::spawn_blocking(|| {
            EXPORT.get().is_none_or(|running| running.processor.shutdown_with_timeout(FINISH_TIMEOUT).is_ok())
        });
        if !flushed.await.unwrap_or(false) {
            let spans = EXPORT.get().map_or(0, |running| running.waiting.load(Ordering::Relaxed));
            tracing::warn!(spans, "The last spans of traces were not exported in time");
        }
    }
}

fn running(settings: &TraceSettings<'_>, url: &str) -> Result<Running, Box<dyn std::error::Error>> {
    let client = reqwest::Client::builder().timeout(EXPORT_TIMEOUT).build()?;
    let mut exporter = OtlpExporter::builder()
        .with_http()
        .with_http_client(Client { client, runtime: Handle::current() })
        .with_endpoint(url)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(EXPORT_TIMEOUT)
        .build()?;
    exporter.set_resource(&resource(settings));
    let waiting = Arc::new(AtomicUsize::new(0));
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_SPANS_MAX)
        .with_max_export_batch_size(BATCH_SPANS_MAX)
        .with_scheduled_delay(EXPORT_INTERVAL)
        .build();
    let processor = BatchSpanProcessor::new(CountedExporter::new(exporter, Arc::clone(&waiting)), config);
    Ok(Running { processor, waiting })
}

fn resource(settings: &TraceSettings<'_>) -> Resource {
    let name = if settings.service_name.is_empty() { settings.program } else { settings.service_name };
    Resource::builder_empty()
        .with_service_name(name.to_owned())
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", settings.instance.to_owned()),
        ])
        .build()
}

/// Puts a span into the queue.
pub(super) fn record(span: SpanData) {
    let Some(running) = EXPORT.get() else { return };
    if running.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE_SPANS_MAX {
        running.waiting.fetch_sub(1, Ordering::Relaxed);
        metrics::counter!(TRACE_SPANS_LOST, "reason" => "queue").increment(1);
        return;
    }
    running.processor.on_end(span);
}

/// The HTTP client of the process. The exporter runs on a thread without a runtime.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        let sending = self.runtime.spawn(async move {
            let mut response = client.execute(request).await?;
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                let room = ANSWER_BYTES_MAX.saturating_sub(body.len());
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
            Ok::<_, reqwest::Error>((response.status(), body))
        });
        let (status, body) = sending.await??;
        let mut response = Response::new(body.into());
        *response.status_mut() = status;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_the_base_of_the_address() {
        for endpoint in ["http://127.0.0.1:4318", "http://127.0.0.1:4318/"] {
            assert_eq!(traces_url(endpoint).unwrap().unwrap(), "http://127.0.0.1:4318/v1/traces");
        }
        assert_eq!(traces_url("").unwrap(), None);
        for bad in ["127.0.0.1:4318", "grpc://host:4317", "http://", "http://host?x=y"] {
            let error = TraceSettings::check(bad).unwrap_err().to_string();
            assert!(error.contains("traces.otlp_endpoint"), "{error}");
        }
    }
}
