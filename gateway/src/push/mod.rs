//! Telling connected clients what was committed and changed.

pub(crate) mod fanout;
pub(crate) mod listener;
mod stream_numbers;
