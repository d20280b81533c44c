//! A load: the number of groups, senders, listeners and messages, and the users that carry it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use testbed::client::Targets;

/// The load of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Load {
    /// Groups, each a conversation.
    pub groups: usize,
    /// Members of each group that only listen.
    pub listeners: usize,
    /// Members of each group that send.
    pub senders: usize,
    /// Messages in all.
    pub messages: usize,
    /// Unanswered messages of each sender; without effect where `rate` is given.
    pub window: usize,
    /// Bytes of each message.
    pub size: usize,
    /// Whether replies come at the commit instead of the acceptance.
    pub stored: bool,
    /// Messages per second in all, sent whether earlier ones were answered or not (open loop).
    pub rate: Option<Rate>,
}

/// The load that the goals are set for: 50 senders in 10 groups, window 64, 200 bytes.
pub(crate) const FIFTY_SENDERS: Load = Load {
    groups: 10,
    listeners: 0,
    senders: 5,
    messages: 500_000,
    window: 64,
    size: 200,
    stored: false,
    rate: None,
};

/// A rate with an optional spike.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rate {
    /// Messages per second.
    pub per_second: f64,
    /// Duration in seconds.
    pub seconds: f64,
    /// Factor, from second, to second.
    pub spike: Option<(f64, f64, f64)>,
}

impl Rate {
    /// The moments at which sender `index` of `senders` sends.
    pub(super) fn moments(&self, index: usize, senders: usize) -> Arc<[Duration]> {
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let (index, senders) = (index as f64, senders as f64);
        let rate_at = |second: f64| match self.spike {
            Some((factor, from, to)) if (from..to).contains(&second) => self.per_second * factor,
            _ => self.per_second,
        };
        let mut at = index / self.per_second;
        let mut moments = Vec::new();
        while at < self.seconds {
            moments.push(Duration::from_secs_f64(at));
            at += senders / rate_at(at);
        }
        moments.into()
    }
}

/// The users that carry a load, and their conversations.
#[derive(Debug, Clone)]
pub(super) struct Participants<'a> {
    pub(super) load: &'a Load,
    /// The conversations are private chats: of two senders, or of a sender and a listener.
    pub(super) private: bool,
    /// Begins all names.
    pub(super) name: String,
    /// The senders measure how long pushes take, as the first listener of a group does.
    pub(super) senders_measure: bool,
    /// What the senders send beside texts.
    pub(super) mix: Option<Arc<Targets>>,
    /// By group: further members, which a scenario connects by itself.
    pub(super) guests: BTreeMap<usize, Vec<String>>,
}

impl<'a> Participants<'a> {
    pub(super) fn new(load: &'a Load, name: String) -> Self {
        Self { load, private: false, name, senders_measure: false, mix: None, guests: BTreeMap::new() }
    }

    /// The user at this place of this group; listeners follow the senders.
    pub(super) fn user(&self, group: usize, place: usize) -> String {
        if self.private || place < self.load.senders {
            return format!("{}.{group}.{place}", self.name);
        }
        format!("{}.{group}.l{}", self.name, place - self.load.senders)
    }

    pub(super) fn conversation(&self, group: usize) -> String {
        if self.private {
            return format!("private_{}_{}", self.user(group, 0), self.user(group, 1));
        }
        format!("group_{}.{group}", self.name)
    }

    /// All members of a group: senders, listeners, guests.
    pub(super) fn members(&self, group: usize) -> Vec<String> {
        let places = 0..self.load.senders + self.load.listeners;
        let guests = self.guests.get(&group).into_iter().flatten().cloned();
        places.map(|place| self.user(group, place)).chain(guests).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_share_a_rate_and_its_spike() {
        let rate = Rate { per_second: 100.0, seconds: 10.0, spike: Some((10.0, 4.0, 5.0)) };
        let counts: Vec<usize> = (0..4).map(|index| rate.moments(index, 4).len()).collect();
        let all: usize = counts.iter().sum();
        // 9 s at 100 and 1 s at 1,000.
        assert!((1_880..=1_920).contains(&all), "{counts:?}");
        assert!(rate.moments(1, 4).is_sorted());
    }

    #[test]
    fn a_group_has_its_senders_its_listeners_and_its_guests() {
        let load = Load { senders: 2, listeners: 1, ..FIFTY_SENDERS };
        let mut participants = Participants::new(&load, "run".into());
        participants.guests = [(3, vec!["guest".into()])].into();
        assert_eq!(participants.members(3), ["run.3.0", "run.3.1", "run.3.l0", "guest"]);
        assert_eq!(participants.members(0), ["run.0.0", "run.0.1", "run.0.l0"]);
        assert_eq!(participants.conversation(3), "group_run.3");
        participants.private = true;
        assert_eq!(participants.conversation(3), "private_run.3.0_run.3.1");
    }
}
