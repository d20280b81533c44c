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
    /// The programs of another build, if some processes are of one.
    pub(super) other: Option<OtherBuild>,
}

/// Programs of another build.
#[derive(Debug, Clone)]
pub(super) struct OtherBuild {
    pub(super) folder: PathBuf,
    /// All processes are of it; otherwise the first gateway and the first worker.
    pub(super) is_all: bool,
}

impl Plan {
    /// The other build, if the `n`th gateway or worker is of it.
    pub(super) fn other_build(&self, n: usize) -> Option<&OtherBuild> {
        self.other.as_ref().filter(|other| other.is_all || n == 0)
    }
}
