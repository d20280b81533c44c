//! Where a client keeps what must outlast its process.

mod file;
mod memory;
mod records;

pub use file::FileStore;
pub use memory::MemoryStore;
pub use records::{Records, Store, StoreError};
