//! `[traces]` of a gateway.

use serde::Deserialize;
use shared::config::ConfigError;
use shared::traces::TraceSettings;

/// `[traces]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// Where traces are exported to by OTLP over HTTP, without the path; empty: traces are off.
    pub otlp_endpoint: String,
    /// The name of the service in traces; empty: `im-gateway`, and `im-worker` for a worker.
    pub service_name: String,
    /// The part of messages that have a trace, from 0 to 1.
    pub sample_ratio: f64,
    /// Most traces that begin per second in this gateway; further messages have none.
    pub per_second_max: u32,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            otlp_endpoint: String::new(),
            service_name: String::new(),
            sample_ratio: 0.001,
            per_second_max: 100,
        }
    }
}

impl Traces {
    /// Checks the ranges of all keys.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        TraceSettings::check(&self.otlp_endpoint)?;
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(ConfigError::key("traces.sample_ratio", "is not in 0..=1"));
        }
        if self.per_second_max == 0 {
            return Err(ConfigError::key("traces.per_second_max", "is 0: set traces.sample_ratio to 0"));
        }
        Ok(())
    }

    /// What the export of the gateway with this id needs.
    #[must_use]
    pub(crate) fn export<'s>(&'s self, instance: &'s str) -> TraceSettings<'s> {
        TraceSettings {
            endpoint: &self.otlp_endpoint,
            service_name: &self.service_name,
            program: "im-gateway",
            instance,
        }
    }
}
