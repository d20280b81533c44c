//! The layout of the shards, and the steps of its change.
//!
//! Pure. The state is one value in MySQL (`setting`, `shards.count`) that is replaced only by compare-and-set, so each step
//! is taken once, whoever takes it. A step that gives up a property waits until every process has applied the state before:
//!
//! | state | gateways publish to | workers consume | next |
//! |---|---|---|---|
//! | no change | current | current | announced |
//! | announced | current | current | paused, once all processes follow; or back |
//! | paused | nothing | current | draining, once all gateways hold; or back to announced |
//! | draining | next | current | retiring, once every queue of the current layout is empty and committed |
//! | retiring | next | both | removing, after a while, once all processes know it |
//! | removing | next | next | no change, once the old queues are removed; or back to retiring |
//!
//! A gateway holds before it numbers messages. So all sequence numbers of a conversation that were published to the current
//! layout are lower than those in the next one, and they are committed before the next one is consumed.
//!
//! Processes of earlier versions cannot parse any of these states except the first one in its first generation: they refuse to
//! start.

use std::fmt;
use std::str::FromStr;

use crate::shard::{NoShard, ShardLayout};

/// A step of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// All processes look at the state often. The number counts the pauses that were given up: no state is had twice.
    Announced(u32),
    /// Gateways hold new messages.
    Paused(u32),
    /// The current queues are committed to their ends.
    Draining,
    /// Both layouts are consumed, in case a gateway that was frozen publishes to the current one.
    Retiring,
    /// The current queues are removed.
    Removing,
}

/// A change to another layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The next layout.
    pub to: ShardLayout,
    /// How far it is.
    pub phase: Phase,
}

/// The layout of a deployment, and its change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardState {
    /// The layout, until the end of the change.
    pub current: ShardLayout,
    /// The change, if there is one.
    pub change: Option<Change>,
}

impl ShardState {
    /// No change.
    #[must_use]
    pub fn stable(current: ShardLayout) -> Self {
        Self { current, change: None }
    }

    fn phase(self) -> Option<(ShardLayout, Phase)> {
        self.change.map(|change| (change.to, change.phase))
    }

    /// The layout to which gateways publish; `None` while they hold messages.
    #[must_use]
    pub fn publishes(self) -> Option<ShardLayout> {
        match self.phase() {
            None | Some((_, Phase::Announced(_))) => Some(self.current),
            Some((_, Phase::Paused(_))) => None,
            Some((to, Phase::Draining | Phase::Retiring | Phase::Removing)) => Some(to),
        }
    }

    /// The layouts whose queues workers consume.
    #[must_use]
    pub fn consumes(self) -> Vec<ShardLayout> {
        match self.phase() {
            None | Some((_, Phase::Announced(_) | Phase::Paused(_) | Phase::Draining)) => vec![self.current],
            Some((to, Phase::Retiring)) => vec![self.current, to],
            Some((to, Phase::Removing)) => vec![to],
        }
    }

    /// The layouts whose queues must exist.
    #[must_use]
    pub fn declares(self) -> Vec<ShardLayout> {
        match self.phase() {
            None => vec![self.current],
            Some((to, Phase::Announced(_) | Phase::Paused(_) | Phase::Draining)) => vec![self.current, to],
            Some((to, Phase::Retiring | Phase::Removing)) => vec![to],
        }
    }

    /// The layout of which every shard has an owner.
    #[must_use]
    pub fn main(self) -> ShardLayout {
        match self.phase() {
            Some((to, Phase::Retiring | Phase::Removing)) => to,
            _ => self.current,
        }
    }

    /// The layout whose queues are committed to their ends.
    #[must_use]
    pub fn drains(self) -> Option<ShardLayout> {
        matches!(self.phase(), Some((_, Phase::Draining))).then_some(self.current)
    }

    /// A change to `count` shards begins. `None` if there is a change, or `count` is no number of shards, or the present one.
    #[must_use]
    pub fn announce(self, count: u16) -> Option<Self> {
        let to = self.current.next(count).filter(|_| self.change.is_none() && count != self.current.get())?;
        Some(Self { change: Some(Change { to, phase: Phase::Announced(0) }), ..self })
    }

    /// The announced change is given up.
    #[must_use]
    pub fn abort(self) -> Option<Self> {
        matches!(self.phase(), Some((_, Phase::Announced(_)))).then_some(Self::stable(self.current))
    }

    /// Gateways are to hold messages.
    #[must_use]
    pub fn pause(self) -> Option<Self> {
        self.step(|phase| match phase {
            Phase::Announced(attempt) => Some(Phase::Paused(attempt)),
            _ => None,
        })
    }

    /// Not all gateways held in time: they go on as before.
    #[must_use]
    pub fn resume(self) -> Option<Self> {
        self.step(|phase| match phase {
            Phase::Paused(attempt) => Some(Phase::Announced(attempt.wrapping_add(1))),
            _ => None,
        })
    }

    /// All gateways hold: they go on with the next layout.
    #[must_use]
    pub fn switch(self) -> Option<Self> {
        self.step(|phase| matches!(phase, Phase::Paused(_)).then_some(Phase::Draining))
    }

    /// The current queues are empty and committed.
    #[must_use]
    pub fn drained(self) -> Option<Self> {
        self.step(|phase| (phase == Phase::Draining).then_some(Phase::Retiring))
    }

    /// All processes know the next layout.
    #[must_use]
    pub fn remove(self) -> Option<Self> {
        self.step(|phase| (phase == Phase::Retiring).then_some(Phase::Removing))
    }

    /// A current queue has messages all the same.
    #[must_use]
    pub fn retire_again(self) -> Option<Self> {
        self.step(|phase| (phase == Phase::Removing).then_some(Phase::Retiring))
    }

    /// The current queues are gone.
    #[must_use]
    pub fn finish(self) -> Option<Self> {
        match self.phase() {
            Some((to, Phase::Removing)) => Some(Self::stable(to)),
            _ => None,
        }
    }

    fn step(self, next: impl FnOnce(Phase) -> Option<Phase>) -> Option<Self> {
        let Change { to, phase } = self.change?;
        next(phase).map(|phase| Self { change: Some(Change { to, phase }), ..self })
    }
}

/// `2`, `5@2`, `2>5@2 announced 0`, `2>5@2 draining`.
impl fmt::Display for ShardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Change { to, phase }) = self.change else { return self.current.fmt(f) };
        write!(f, "{}>{to} ", self.current)?;
        match phase {
            Phase::Announced(attempt) => write!(f, "announced {attempt}"),
            Phase::Paused(attempt) => write!(f, "paused {attempt}"),
            Phase::Draining => f.write_str("draining"),
            Phase::Retiring => f.write_str("retiring"),
            Phase::Removing => f.write_str("removing"),
        }
    }
}

impl FromStr for ShardState {
    type Err = NoShard;

    fn from_str(text: &str) -> Result<Self, NoShard> {
        let Some((layouts, phase)) = text.split_once(' ') else { return Ok(Self::stable(text.parse()?)) };
        let (current, to) = layouts.split_once('>').ok_or(NoShard)?;
        let attempt = |text: &str| text.parse().map_err(|_| NoShard);
        let phase = match phase.split_once(' ').unwrap_or((phase, "")) {
            ("announced", number) => Phase::Announced(attempt(number)?),
            ("paused", number) => Phase::Paused(attempt(number)?),
            ("draining", "") => Phase::Draining,
            ("retiring", "") => Phase::Retiring,
            ("removing", "") => Phase::Removing,
            _ => return Err(NoShard),
        };
        Ok(Self { current: current.parse()?, change: Some(Change { to: to.parse()?, phase }) })
    }
}

#[cfg(test)]
mod tests;
