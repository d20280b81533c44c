//! All states, and a simulation of gateways, workers and the queues of both layouts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn layout(count: u16) -> ShardLayout {
    ShardLayout::new(count).unwrap()
}

/// Every state of a change from 2 to 5 shards, in order.
fn all() -> Vec<ShardState> {
    let stable = ShardState::stable(layout(2));
    let announced = stable.announce(5).unwrap();
    let paused = announced.pause().unwrap();
    let again = paused.resume().unwrap();
    let draining = again.pause().and_then(ShardState::switch).unwrap();
    let retiring = draining.drained().unwrap();
    let removing = retiring.remove().unwrap();
    vec![stable, announced, paused, again, draining, retiring, removing, removing.finish().unwrap()]
}

#[test]
fn states_are_read_as_they_are_written() {
    let texts = [
        "2",
        "2>5@2 announced 0",
        "2>5@2 paused 0",
        "2>5@2 announced 1",
        "2>5@2 draining",
        "2>5@2 retiring",
        "2>5@2 removing",
        "5@2",
    ];
    for (state, text) in all().into_iter().zip(texts) {
        assert_eq!(state.to_string(), text);
        assert_eq!(text.parse(), Ok(state));
        // The parser of earlier versions.
        assert_eq!(text.parse::<u16>().is_ok(), text == "2", "{text}");
    }
    for bad in ["", "0", "1025", "2@0", "2>5@2", "2>5@2 draining 1", "2>5@2 paused", "2 5", "many"] {
        assert_eq!(bad.parse::<ShardState>(), Err(NoShard), "{bad}");
    }
}

#[test]
fn no_step_can_be_taken_from_another_state() {
    type Step = fn(ShardState) -> Option<ShardState>;
    let steps: [(&str, Step, &[usize]); 9] = [
        ("announce", |state| state.announce(3), &[0, 7]),
        ("abort", ShardState::abort, &[1, 3]),
        ("pause", ShardState::pause, &[1, 3]),
        ("resume", ShardState::resume, &[2]),
        ("switch", ShardState::switch, &[2]),
        ("drained", ShardState::drained, &[4]),
        ("remove", ShardState::remove, &[5]),
        ("retire again", ShardState::retire_again, &[6]),
        ("finish", ShardState::finish, &[6]),
    ];
    for (name, step, from) in steps {
        for (at, state) in all().into_iter().enumerate() {
            assert_eq!(step(state).is_some(), from.contains(&at), "{name} from {state}");
        }
    }
    assert_eq!(ShardState::stable(layout(2)).announce(2), None);
    assert_eq!(ShardState::stable(layout(2)).announce(0), None);
}

#[test]
fn what_is_published_to_is_declared_and_what_is_consumed_is_declared_or_retiring() {
    for state in all() {
        assert!(state.publishes().is_none_or(|to| state.declares().contains(&to)), "{state}");
        assert!(state.consumes().contains(&state.main()), "{state}");
    }
}

/// A gateway that applies states late.
#[derive(Clone, Copy)]
struct Gateway {
    applied: ShardState,
    is_alive: bool,
}

/// One conversation; its queue in each layout, by generation; and what is committed.
struct World {
    state: ShardState,
    gateways: Vec<Gateway>,
    next: u64,
    queues: BTreeMap<u16, Vec<u64>>,
    worker: ShardState,
    committed: Vec<u64>,
}

impl World {
    /// All live gateways have applied the state.
    fn all_applied(&self) -> bool {
        self.gateways.iter().all(|gateway| !gateway.is_alive || gateway.applied == self.state)
    }

    fn set(&mut self, next: Option<ShardState>) {
        self.state = next.unwrap_or(self.state);
    }

    /// A step of the command, of a worker, or of a gateway that has held for too long. Any of them may be missing at any time.
    fn step(&mut self, choice: u8) {
        let is_empty = self.queues.get(&self.state.current.generation()).is_none_or(Vec::is_empty);
        match choice {
            0 => self.set(self.state.announce(if self.state.current.get() == 2 { 5 } else { 2 })),
            1 if self.all_applied() => self.set(self.state.pause()),
            2 => self.set(self.state.resume()),
            3 if self.all_applied() => self.set(self.state.switch()),
            4 if is_empty => self.set(self.state.drained()),
            5 if self.all_applied() => self.set(self.state.remove()),
            6 if is_empty => self.set(self.state.finish()),
            7 => self.set(self.state.abort()),
            _ => {}
        }
    }

    /// Numbers a message and publishes it, unless the gateway holds.
    fn send(&mut self, gateway: usize) {
        let Gateway { applied, is_alive } = self.gateways[gateway];
        if let Some(to) = applied.publishes().filter(|_| is_alive) {
            self.next += 1;
            self.queues.entry(to.generation()).or_default().push(self.next);
        }
    }

    /// The worker takes what is in one of the queues that it consumes.
    fn consume(&mut self, at: usize) {
        let layouts = self.worker.consumes();
        let layout = layouts[at % layouts.len()];
        self.committed.append(self.queues.entry(layout.generation()).or_default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn a_conversation_is_committed_in_the_order_of_its_numbers_whoever_dies_or_is_late(
        actions in proptest::collection::vec((0u8..12, 0u8..8, 0usize..3), 0..300),
    ) {
        let begin = ShardState::stable(layout(2));
        let gateway = Gateway { applied: begin, is_alive: true };
        let mut world = World {
            state: begin,
            gateways: vec![gateway; 3],
            next: 0,
            queues: BTreeMap::new(),
            worker: begin,
            committed: Vec::new(),
        };
        for (action, choice, at) in actions {
            match action {
                0..4 => world.step(choice),
                4..6 => world.gateways[at].applied = world.state,
                6..9 => world.send(at),
                9 => world.worker = world.state,
                10 => world.consume(at),
                // A gateway dies, or starts: it reads the state before it publishes.
                _ => world.gateways[at] =
                    Gateway { applied: world.state, is_alive: !world.gateways[at].is_alive },
            }
        }
        // Everything goes on, and the change ends.
        for choice in [1, 3, 4, 5, 6] {
            for gateway in &mut world.gateways {
                *gateway = Gateway { applied: world.state, is_alive: true };
            }
            world.worker = world.state;
            world.consume(0);
            world.consume(1);
            world.step(choice);
        }
        world.worker = world.state;
        world.consume(0);
        world.consume(1);
        prop_assert_eq!(world.state.change, None);
        prop_assert_eq!(world.committed, (1..=world.next).collect::<Vec<_>>());
    }
}
