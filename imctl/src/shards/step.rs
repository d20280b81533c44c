//! The next step of `imctl shards set`. Pure.

use std::time::Duration;

use shared::shard_follower::Straggler;
use shared::shard_state::{Change, Phase, ShardState};

/// Longest wait for processes to follow the announcement: one that starts or is dead needs some seconds.
const ANNOUNCED_MAX: Duration = Duration::from_secs(60);
/// Longest wait for gateways to hold. They end the pause themselves soon after.
pub(super) const PAUSED_MAX: Duration = Duration::from_millis(1_000);
/// Pauses before the change is given up.
pub(super) const PAUSES_MAX: u32 = 10;

/// What the command sees.
#[derive(Debug)]
pub(super) struct View<'v> {
    pub(super) state: ShardState,
    /// The processes that do not follow it.
    pub(super) stragglers: &'v [Straggler],
    /// How long the command has seen this state.
    pub(super) since: Duration,
    /// Pauses that this command has begun.
    pub(super) pauses: u32,
}

/// What the command does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: the deployment has the number.
    Done,
    /// Declare the queues and announce the change.
    Announce,
    /// Replace the state.
    Take(ShardState),
    /// Give the change up, and fail with this reason.
    GiveUp(String),
    /// Give the change up, as the operator wants.
    Abort,
    /// Do nothing, and fail with this reason.
    Refuse(String),
    /// Look again a moment later.
    Wait,
}

/// The next step towards `count` shards.
pub(super) fn next(count: u16, view: &View<'_>) -> Step {
    let View { state, stragglers, since, pauses } = view;
    let Some(Change { to, phase }) = state.change else {
        return if state.current.get() == count { Step::Done } else { Step::Announce };
    };
    let take = |next: Option<ShardState>| next.map_or(Step::Wait, Step::Take);
    match phase {
        Phase::Announced(_) | Phase::Paused(_) if state.current.get() == count => {
            if state.abort().is_some() {
                Step::Abort
            } else {
                take(state.resume())
            }
        }
        _ if to.get() != count => Step::Refuse(other_change(*state, to)),
        Phase::Announced(_) => {
            let earlier = stragglers.iter().find(|one| matches!(one, Straggler::Earlier { .. }));
            match (earlier, stragglers.first()) {
                (Some(earlier), _) => Step::GiveUp(earlier.to_string()),
                (None, Some(late)) if *since > ANNOUNCED_MAX => Step::GiveUp(late.to_string()),
                (None, Some(_)) => Step::Wait,
                (None, None) if *pauses >= PAUSES_MAX => {
                    Step::GiveUp(format!("not all gateways held new messages in {pauses} attempts"))
                }
                (None, None) => take(state.pause()),
            }
        }
        Phase::Paused(_) => {
            if !stragglers.iter().any(is_gateway) {
                take(state.switch())
            } else if *since > PAUSED_MAX {
                take(state.resume())
            } else {
                Step::Wait
            }
        }
        Phase::Draining | Phase::Retiring | Phase::Removing => Step::Wait,
    }
}

/// Whether it may publish.
fn is_gateway(straggler: &Straggler) -> bool {
    match straggler {
        Straggler::Late { role, .. } => role == "gateway",
        Straggler::Earlier { role, .. } => *role == "gateway",
    }
}

fn other_change(state: ShardState, to: shared::shard::ShardLayout) -> String {
    let (from, to) = (state.current.get(), to.get());
    match state.publishes() {
        Some(layout) if layout.get() == to => {
            format!(
                "a change from {from} to {to} shards is in progress, and cannot be given up: wait for its end"
            )
        }
        _ => format!(
            "a change from {from} to {to} shards is announced: `imctl shards set {to} --apply` goes on with it, \
             `imctl shards set {from} --apply` gives it up"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(count: u16, state: &str, stragglers: &[Straggler], since_ms: u64) -> Step {
        let since = Duration::from_millis(since_ms);
        next(count, &View { state: state.parse().unwrap(), stragglers, since, pauses: 0 })
    }

    fn take(state: &str) -> Step {
        Step::Take(state.parse().unwrap())
    }

    #[test]
    fn steps_lead_to_the_number_and_back() {
        let late = |role: &str| Straggler::Late { role: role.to_owned(), id: "a".to_owned() };
        let (gateway, worker) = ([late("gateway")], [late("worker")]);
        assert_eq!(step(5, "2", &[], 0), Step::Announce);
        assert_eq!(step(2, "2", &[], 0), Step::Done);
        assert_eq!(step(5, "2>5@2 announced 0", &worker, 0), Step::Wait);
        assert!(matches!(step(5, "2>5@2 announced 0", &worker, 61_000), Step::GiveUp(_)));
        assert_eq!(step(5, "2>5@2 announced 0", &[], 0), take("2>5@2 paused 0"));
        assert_eq!(step(5, "2>5@2 paused 0", &gateway, 0), Step::Wait);
        assert_eq!(step(5, "2>5@2 paused 0", &gateway, 1_001), take("2>5@2 announced 1"));
        assert_eq!(step(5, "2>5@2 paused 0", &worker, 0), take("2>5@2 draining"), "it publishes nothing");
        for phase in ["draining", "retiring", "removing"] {
            assert_eq!(step(5, &format!("2>5@2 {phase}"), &gateway, 0), Step::Wait);
            let Step::Refuse(why) = step(2, &format!("2>5@2 {phase}"), &[], 0) else { panic!("{phase}") };
            assert!(why.contains("cannot be given up"), "{why}");
        }
        assert_eq!(step(2, "2>5@2 announced 0", &[], 0), Step::Abort);
        assert_eq!(step(2, "2>5@2 paused 0", &[], 0), take("2>5@2 announced 1"));
        let Step::Refuse(why) = step(7, "2>5@2 announced 0", &[], 0) else { panic!() };
        assert!(why.contains("imctl shards set 5 --apply") && why.contains("imctl shards set 2"), "{why}");
        assert_eq!(step(5, "5@2", &[], 0), Step::Done);
    }

    #[test]
    fn a_process_of_an_earlier_version_and_gateways_that_never_hold_end_the_change() {
        let earlier = [Straggler::Earlier { role: "gateway", id: "old".to_owned() }];
        let Step::GiveUp(why) = step(5, "2>5@2 announced 0", &earlier, 0) else { panic!() };
        assert!(why.contains("gateway old") && why.contains("upgrade it first"), "{why}");
        let state = "2>5@2 announced 9".parse().unwrap();
        let view = View { state, stragglers: &[], since: Duration::ZERO, pauses: PAUSES_MAX };
        assert!(matches!(next(5, &view), Step::GiveUp(_)));
    }
}
