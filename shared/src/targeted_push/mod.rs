//! Targeted push: the events of private chats and small groups go only to the gateways to which a member is connected.
//!
//! Pure: the rules of both sides, without Redis and without a clock. A gateway keeps the presence entries of its users
//! ([`Records`]), and a worker finds gateways by them ([`Directory`]). An event that is missing at a gateway leaves no gap that a
//! client could see, so the rules are made so that none is missing:
//!
//! | order of things | why no event is missing |
//! |---|---|
//! | a worker commits, looks up gateways, and publishes; a gateway records a user, answers the login, and then the client pulls | a lookup that does not find the user was before the login was answered, and the pull reads what was committed |
//! | Redis cannot be written to: the login is answered without an entry | the connection gets a resync when the entry is made |
//! | Redis cannot be read | the event goes to all gateways |
//! | a server of Redis has started again, perhaps with an earlier state, or another one has taken its place | its run is another one. Events go to all gateways until each live one has announced that all its users are recorded in this run |
//! | Redis lost entries and its run is the same | the gateway finds its mark missing, records all users again, and sends a resync to all |
//! | a removal is late | an event goes to one gateway more |
//! | a write arrives behind a later one | it changes nothing: entries have revisions |

mod directory;
mod records;
#[cfg(test)]
mod simulation;

pub use directory::{Directory, Found, Route};
pub use records::{Complete, REVISION_MIN, Records, Write, Written};
