//! Reports: the outcome of runs with their origin, as JSON and as an HTML page with plots.

mod html;
mod plot;
mod plots;
mod record;
mod run;

pub use html::page;
pub use plot::{Line, Plot};
pub use plots::plots;
pub use record::{Machine, Record};
pub use run::{Run, read_json, write_json};
