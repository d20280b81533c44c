//! The processes of a system, and how each is configured.

use std::path::PathBuf;

/// The processes of a system.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) gateways: usize,
    pub(super) workers: usize,
    /// Where gateways listen; those beyond its end on any free port.
    pub(super) ports: Vec<u16>,
    /// Settings, for the processes that have them.
    pub(super) environment: Vec<(String, String)>,
    /// With a link between each two parts that communicate.
    pub(super) linked: bool,
    /// The folder of the other version's programs, if the first gateway and worker are of one.
    pub(super) previous: Option<PathBuf>,
}
