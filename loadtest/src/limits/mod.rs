//! The throughput of each part of the message path alone, and the bound for the whole.
//!
//! Each part is a small program of its own on the real servers: sockets without a gateway, the script without senders,
//! bodies without messages, rows without a worker. It runs at full speed while the processor time of all its processes is
//! measured. A message needs all parts, so its cost is at least the sum of theirs, and the throughput of the machine is at
//! most its cores divided by that cost.
//!
//! Not in the cost, although every system needs it: JSON and protobuf, permission checks, and the lookup of recipients.
//! The bound is therefore slightly higher than any system can reach.

mod bounds;
mod part;
mod queue;
mod rows;
mod sequences;
mod sockets;
mod table;

pub use bounds::{Bound, Limits, Settings, limits};
pub use part::Part;
