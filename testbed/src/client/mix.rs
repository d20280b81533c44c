//! What a sender of mixed traffic sends: texts, and changes of texts that were acknowledged.

use parking_lot::Mutex;
use serde_json::json;

/// Texts that are kept as targets of mixed traffic: the last ones of a conversation.
const TARGETS_MAX: usize = 64;
/// The reactions that are used: as many as a message may have.
const REACTIONS: [&str; 20] = [
    "\u{1f44d}",
    "\u{2764}\u{fe0f}",
    "+1",
    "\u{1f602}",
    "\u{1f389}",
    "\u{1f622}",
    "\u{1f440}",
    "\u{1f525}",
    "\u{1f680}",
    "\u{2705}",
    "\u{274c}",
    "\u{1f914}",
    "\u{1f64f}",
    "\u{1f4af}",
    "\u{1f44f}",
    "\u{1f60d}",
    "\u{1f62e}",
    "-1",
    "ok",
    "\u{2b50}",
];
/// Those of mixed traffic.
const MIXED_REACTIONS: usize = 3;
/// The kinds of messages repeat after this many.
const PERIOD: usize = 10;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// A text.
    #[default]
    Text,
    /// An edit of a text of the same sender.
    Edit {
        /// The text.
        target: u64,
    },
    /// A reaction to a text.
    Reaction {
        /// The text.
        target: u64,
        /// Which one.
        reaction: &'static str,
        /// It is taken back.
        removes: bool,
    },
}

impl Kind {
    /// Whether a refusal with this code is final: the text may have got another number in a repair, under which its sender
    /// does not look for it.
    #[must_use]
    pub fn may_end_with(self, code: u16) -> bool {
        self != Self::Text && matches!(code, 403 | 404)
    }

    /// The payload of its frame if it is a change. `content` is that of an edit.
    #[must_use]
    pub fn change(self, content: &str, stored: bool) -> Option<serde_json::Value> {
        let mut payload = match self {
            Self::Text => return None,
            Self::Edit { target } => json!({"msg_type": 4, "edit_seq": target, "content": content}),
            Self::Reaction { target, reaction, removes: false } => {
                json!({"msg_type": 5, "react_seq": target, "reaction": reaction})
            }
            Self::Reaction { target, reaction, removes: true } => {
                json!({"msg_type": 5, "react_seq": target, "reaction": reaction, "remove": true})
            }
        };
        if stored {
            payload["ack"] = "stored".into();
        }
        Some(payload)
    }
}

/// What is sent beside texts.
#[derive(Debug, Clone, Copy, Default)]
enum Plan {
    /// Edits and reactions between the texts.
    #[default]
    Mixed,
    /// So many texts, then only reactions to these.
    Reactions(usize),
}

/// The texts of one conversation that its senders change.
#[derive(Debug, Default)]
pub struct Targets {
    plan: Plan,
    /// With their senders.
    texts: Mutex<Vec<(String, u64)>>,
}

impl Targets {
    /// For senders that send `texts` texts at least, and then only reactions to the first of these. Each reaction of a sender
    /// changes something.
    #[must_use]
    pub fn reactions(texts: usize) -> Self {
        Self { plan: Plan::Reactions(texts), texts: Mutex::default() }
    }

    /// A text of `user` was acknowledged with this number.
    pub fn acked(&self, user: &str, seq: u64) {
        let mut texts = self.texts.lock();
        match self.plan {
            Plan::Reactions(count) if texts.len() >= count => return,
            Plan::Mixed if texts.len() == TARGETS_MAX => drop(texts.remove(0)),
            _ => {}
        }
        texts.push((user.to_owned(), seq));
    }

    /// What message `n` of `user` is. A text while there is nothing to change.
    #[must_use]
    pub fn kind(&self, user: &str, n: usize) -> Kind {
        let texts = self.texts.lock();
        match self.plan {
            Plan::Mixed => mixed(&texts, user, n),
            Plan::Reactions(count) if texts.len() < count => Kind::Text,
            Plan::Reactions(count) => {
                let turn = n / count;
                Kind::Reaction {
                    target: texts[n % count].1,
                    reaction: REACTIONS[turn % REACTIONS.len()],
                    removes: turn / REACTIONS.len() % 2 == 1,
                }
            }
        }
    }
}

/// Half of the messages are texts.
fn mixed(texts: &[(String, u64)], user: &str, n: usize) -> Kind {
    let reaction = REACTIONS[n / PERIOD % MIXED_REACTIONS];
    let react = |target: Option<&(String, u64)>, removes| {
        target.map_or(Kind::Text, |(_, target)| Kind::Reaction { target: *target, reaction, removes })
    };
    let is_own = |text: &&(String, u64)| text.0 == user;
    let edit = |target: Option<&(String, u64)>| {
        target.map_or(Kind::Text, |(_, target)| Kind::Edit { target: *target })
    };
    match n % PERIOD {
        1 => edit(texts.iter().rev().find(is_own)),
        // An older one, which has been read and may have been edited before.
        3 => edit(texts.iter().find(is_own)),
        5 | 6 => react(texts.last(), false),
        7 => react(texts.last(), true),
        8 => react(texts.first(), false),
        _ => Kind::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_messages_are_texts_and_a_sender_edits_its_own() {
        let targets = Targets::default();
        assert!((0..PERIOD).all(|n| targets.kind("ann", n) == Kind::Text), "nothing to change yet");
        for seq in 1..=100 {
            targets.acked(if seq % 2 == 0 { "ann" } else { "bob" }, seq);
        }
        let kinds: Vec<Kind> = (0..PERIOD).map(|n| targets.kind("ann", n)).collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Text).count(), PERIOD / 2 - 1);
        assert_eq!((kinds[1], kinds[3]), (Kind::Edit { target: 100 }, Kind::Edit { target: 38 }));
        assert!(matches!(kinds[7], Kind::Reaction { target: 100, removes: true, .. }));
        assert!(kinds[1].may_end_with(404) && !Kind::Text.may_end_with(404) && !kinds[1].may_end_with(503));
    }

    #[test]
    fn a_sender_of_reactions_changes_something_each_time() {
        let targets = Targets::reactions(2);
        assert_eq!(targets.kind("ann", 0), Kind::Text);
        (1..=3).for_each(|seq| targets.acked("ann", seq));
        let mut standing = std::collections::BTreeSet::new();
        for n in 0..200 {
            let Kind::Reaction { target, reaction, removes } = targets.kind("bob", n) else { panic!("{n}") };
            assert!(target <= 2);
            let changed = if removes {
                standing.remove(&(target, reaction))
            } else {
                standing.insert((target, reaction))
            };
            assert!(changed, "{n}");
        }
    }
}
