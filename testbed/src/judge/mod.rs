//! Whether the promises were kept: all conversations are pulled again through the public protocol, and compared with the
//! acknowledgements.

mod changes;
mod conversations;
mod feed;
mod rules;
mod verdict;

pub use changes::applied;
pub use conversations::{Lists, judge, judge_and_keep};
pub use feed::judge_feed;
pub use rules::{Renumbered, judge_follower, judge_list, judge_reader};
pub use verdict::Verdict;
