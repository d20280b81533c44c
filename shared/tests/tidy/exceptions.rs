//! Where the code does not keep a rule yet.

/// Rule, file and subject of a finding.
pub(crate) const EXCEPTIONS: &[(&str, &str, &str)] = &[];
