//! The features of this gateway, as clients may ask for them.

use crate::config::Config;

/// The names of the features that exist and are switched on. A client that finds a feature here may use its requests and
/// fields.
#[must_use]
pub(crate) fn names(_config: &Config) -> Vec<&'static str> {
    Vec::new()
}
