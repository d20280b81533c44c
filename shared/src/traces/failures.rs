//! The exporter's failures: counted, and logged once until it works again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry_otlp::SpanExporter as OtlpExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use crate::metrics::{TRACE_SPANS_EXPORTED, TRACE_SPANS_LOST};

/// An exporter that counts what it exports and what is lost.
#[derive(Debug)]
pub(super) struct CountedExporter {
    inner: OtlpExporter,
    /// Spans that wait or are being exported.
    waiting: Arc<AtomicUsize>,
    is_failing: AtomicBool,
}

impl CountedExporter {
    pub(super) fn new(inner: OtlpExporter, waiting: Arc<AtomicUsize>) -> Self {
        Self { inner, waiting, is_failing: AtomicBool::new(false) }
    }
}

impl SpanExporter for CountedExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let exported = self.inner.export(batch).await;
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        match &exported {
            Ok(()) => {
                metrics::counter!(TRACE_SPANS_EXPORTED).increment(count as u64);
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("The collector of traces accepts spans again");
                }
            }
            Err(error) => {
                metrics::counter!(TRACE_SPANS_LOST, "reason" => "export").increment(count as u64);
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        %error, spans = count,
                        "Cannot export traces; spans are dropped and counted until the collector accepts them"
                    );
                }
            }
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
