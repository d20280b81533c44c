//! Lists of texts.

use serde::{Deserialize, Deserializer};

/// Reads a list of texts. In an environment variable there may be spaces beside the commas, and an empty value is an empty
/// list.
///
/// # Errors
/// The value is not a list of texts.
pub fn trimmed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let all: Vec<String> = Deserialize::deserialize(deserializer)?;
    Ok(all.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect())
}
