//! Configuration: a TOML file, overridden by environment variables `IM__SECTION__KEY`.
//!
//! Each binary has its own struct of the sections that it needs; the sections of both binaries are here. It ignores keys
//! that only the other binary has. An unknown key or an invalid value stops the process at its start, with one line that
//! names the key, and the variable or the file that it comes from.

mod feed;
mod files;
mod known;
mod list;
mod load;
mod ops;
pub mod sample;
mod secret;
mod sections;
mod store_tls;

pub use feed::Feed;
pub use files::{FileStoreKind, Files};
pub use known::Program;
pub use list::trimmed;
pub use load::{ConfigError, load, load_from};
pub use ops::Ops;
pub use secret::Secret;
pub use sections::{Amqp, Log, LogFormat, Mysql, OnHarmfulPolicy, Redis, Shards, Start, Threads, Url};
pub use store_tls::StoreTls;
