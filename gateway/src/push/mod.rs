//! Telling connected clients what was committed and changed.

pub mod fanout;
pub mod listener;
mod stream_numbers;
