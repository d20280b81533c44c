//! A device, a conversation and the row of its notification, with a gateway that is killed at any step.
//!
//! [`Table`] does what the statements in `shared/src/mysql/notifications` do; the rules are the real ones. The promises: after
//! numbers that it has shown are dropped, a device alerts its user at most once for a number; and when nothing happens any
//! more, it shows a notification if and only if there is an unread message that calls for one.

use std::time::Duration;

use proptest::prelude::*;
use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::mysql::notifications::{Candidate, DueRow, Found, Planned};

use super::planner::{Calling, planned};
use super::rules::{KEPT, Look, Step, decide, is_muted, look, millis, next_look};

const INTERVAL: Duration = Duration::from_secs(10);
const UNTIL_MS: i64 = 30_000;

#[derive(Debug, Clone, Copy)]
enum Operation {
    Send { mentions: bool },
    Recall { back: u64 },
    Read { back: u64, is_killed: bool },
    Mute(bool),
    Plan,
    Work(Killed),
    Pass { seconds: i64 },
}

/// When the gateway is killed that works on the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    Never,
    AfterBegin,
    AfterSend,
    /// It is not, but the row changes between its first and its last statement.
    ReadMeanwhile,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let killed = prop_oneof![
        4 => Just(Killed::Never),
        1 => Just(Killed::AfterBegin),
        1 => Just(Killed::AfterSend),
        1 => Just(Killed::ReadMeanwhile),
    ];
    let operation = prop_oneof![
        4 => (0..5_u8).prop_map(|n| Operation::Send { mentions: n == 0 }),
        1 => (0..3_u64).prop_map(|back| Operation::Recall { back }),
        2 => (0..3_u64, any::<bool>()).prop_map(|(back, is_killed)| Operation::Read { back, is_killed }),
        1 => any::<bool>().prop_map(Operation::Mute),
        4 => Just(Operation::Plan),
        6 => killed.prop_map(Operation::Work),
        2 => (0..40_i64).prop_map(|seconds| Operation::Pass { seconds }),
    ];
    proptest::collection::vec(operation, 0..60)
}

#[derive(Debug, Clone)]
struct Message {
    calling: Calling,
    is_recalled: bool,
    /// It is the recall of this number.
    recalls: Option<Seq>,
}

#[derive(Debug, Default)]
struct Device {
    /// The highest number that it was told.
    told: Seq,
    /// The number of the notification on the screen.
    shown: Option<Seq>,
    alerts: Vec<Seq>,
}

impl Device {
    fn show(&mut self, seq: Seq) {
        if seq > self.told {
            self.told = seq;
            self.alerts.push(seq);
            self.shown = Some(seq);
        }
    }

    fn withdraw(&mut self, seq: Seq) {
        self.told = self.told.max(seq);
        if self.shown.is_some_and(|shown| shown <= seq) {
            self.shown = None;
        }
    }
}

#[derive(Debug)]
struct World {
    now: i64,
    messages: Vec<Message>,
    planned_to: usize,
    read: Seq,
    is_muted: bool,
    row: Option<(DueRow, i64)>,
    device: Device,
}

impl World {
    fn new() -> Self {
        let (messages, device) = Default::default();
        Self { now: 1_000_000, messages, planned_to: 0, read: Seq::ZERO, is_muted: false, row: None, device }
    }

    fn next_seq(&self) -> Seq {
        Seq(self.messages.len() as u64 + 1)
    }

    fn add(&mut self, mentions: bool, recalls: Option<Seq>) {
        let mentions = mentions.then_some(shared::message::Mentions::Everyone);
        let sender = UserId::parse("ann").unwrap();
        let calling = Calling { seq: self.next_seq(), sender, mentions, stored_at: self.now };
        self.messages.push(Message { calling, is_recalled: false, recalls });
    }

    fn muted_until(&self) -> i64 {
        if self.is_muted { -1 } else { 0 }
    }

    fn newest(&self, to: Seq, mentions_only: bool) -> Option<Seq> {
        let calls = |message: &&Message| {
            let Calling { seq, mentions, .. } = &message.calling;
            message.recalls.is_none()
                && !message.is_recalled
                && *seq > self.read
                && *seq <= to
                && (!mentions_only || mentions.is_some())
        };
        self.messages.iter().rfind(calls).map(|message| message.calling.seq)
    }

    fn run(&mut self, operation: Operation) {
        match operation {
            Operation::Send { mentions } => self.add(mentions, None),
            Operation::Recall { back } => {
                let target = self.messages.len().checked_sub(1 + usize::try_from(back).unwrap());
                let Some(target) = target.and_then(|at| self.messages.get_mut(at)) else { return };
                if target.recalls.is_none() && !target.is_recalled {
                    target.is_recalled = true;
                    let seq = target.calling.seq;
                    self.add(false, Some(seq));
                }
            }
            Operation::Read { back, is_killed } => {
                self.read = self.read.max(Seq((self.messages.len() as u64).saturating_sub(back)));
                if !is_killed {
                    self.touch();
                }
            }
            Operation::Mute(is_muted) => {
                self.is_muted = is_muted;
                self.touch();
            }
            Operation::Plan => self.plan(),
            Operation::Work(killed) => self.work(killed),
            Operation::Pass { seconds } => self.now += seconds * 1_000,
        }
    }

    fn touch(&mut self) {
        let now = self.now;
        self.change(|row, due_at| {
            if row.shown_seq.max(row.sending_seq) > Seq::ZERO {
                *due_at = now.min(*due_at);
            }
        });
    }

    fn change(&mut self, change: impl FnOnce(&mut DueRow, &mut i64)) {
        if let Some((row, due_at)) = &mut self.row {
            change(row, due_at);
            row.version += 1;
        }
    }

    fn plan(&mut self) {
        let new = self.messages[self.planned_to..].to_vec();
        self.planned_to = self.messages.len();
        let calls = |message: &&Message| message.recalls.is_none() && !message.is_recalled;
        let calling: Vec<Calling> = new.iter().filter(calls).map(|message| message.calling.clone()).collect();
        let conversation = Conversation::from_key("group_1").unwrap();
        let user = UserId::parse("bob").unwrap();
        let candidate = Candidate { user, read: self.read, muted_until: self.muted_until() };
        if let Some(planned) = planned(&conversation, &calling, &candidate, self.now) {
            self.upsert(&planned);
        }
        for (target, recall) in new.iter().filter_map(|one| Some((one.recalls?, one.calling.seq))) {
            let now = self.now;
            self.change(|row, due_at| {
                if row.shown_seq.max(row.sending_seq) >= target {
                    row.last_seq = row.last_seq.max(recall);
                    *due_at = now.min(*due_at);
                }
            });
        }
    }

    fn upsert(&mut self, planned: &Planned) {
        let Some((row, due_at)) = &mut self.row else {
            let row = DueRow {
                last_seq: planned.last_seq,
                mention_seq: planned.mention_seq,
                since_ms: planned.since_ms,
                shown_seq: Seq::ZERO,
                sending_seq: Seq::ZERO,
                shown_at: 0,
                looks: 0,
                is_withdrawn: false,
                pending: Vec::new(),
                version: 1,
            };
            self.row = Some((row, planned.due_at));
            return;
        };
        *due_at = planned.due_at.max(row.shown_at + millis(INTERVAL)).min(*due_at);
        if row.last_seq <= row.shown_seq {
            row.since_ms = planned.since_ms;
        }
        row.mention_seq = row.mention_seq.max(planned.mention_seq);
        row.last_seq = row.last_seq.max(planned.last_seq);
        (row.is_withdrawn, row.looks) = (false, 0);
        row.version += 1;
    }

    /// A gateway looks at the row, if it is due.
    fn work(&mut self, killed: Killed) {
        let Some((row, due_at)) = self.row.clone() else { return };
        if due_at > self.now {
            return;
        }
        let muted_until = self.muted_until();
        let found = Found { read: self.read, is_inside: true, muted_until, group_name: String::new() };
        let newest = match look(&row, &found, self.now) {
            Look::Over => None,
            Look::Unread { mentions_only } => self.newest(row.last_seq, mentions_only),
        };
        match decide(&row, newest, self.now, INTERVAL) {
            Step::Drop => self.row = None,
            Step::LookAgain { at, looks } => {
                self.change(|row, due_at| (*due_at, row.looks) = (at, looks));
            }
            Step::Show { seq, .. } => self.send(Some(seq), killed),
            Step::Withdraw => self.send(None, killed),
        }
    }

    fn send(&mut self, seq: Option<Seq>, killed: Killed) {
        let until = self.now + UNTIL_MS;
        self.change(|row, due_at| {
            row.sending_seq = row.sending_seq.max(seq.unwrap_or(Seq::ZERO));
            (row.is_withdrawn, *due_at) = (seq.is_none(), until);
        });
        let Some((begun, _)) = self.row.clone() else { return };
        if killed == Killed::AfterBegin {
            return;
        }
        match seq {
            Some(seq) => self.device.show(seq),
            None => self.device.withdraw(begun.last_seq.max(begun.sending_seq)),
        }
        match killed {
            Killed::AfterSend => return,
            Killed::ReadMeanwhile => self.run(Operation::Read { back: 0, is_killed: false }),
            Killed::Never | Killed::AfterBegin => {}
        }
        let now = self.now;
        let is_same = self.row.as_ref().is_some_and(|(row, _)| row.version == begun.version);
        match seq {
            None if is_same => self.row = None,
            None => {}
            Some(seq) => self.change(|row, due_at| {
                row.shown_at = row.shown_at.max(now);
                row.shown_seq = row.shown_seq.max(seq);
                let next = now + next_look(0);
                *due_at = if is_same { next } else { next.min(*due_at) };
            }),
        }
    }

    /// Lets everything happen that is going to happen.
    fn settle(&mut self) {
        self.plan();
        for _ in 0..40 {
            self.work(Killed::Never);
            // A notification that nobody reads is forgotten at last.
            if self.now > millis(KEPT) / 2 {
                break;
            }
            self.now += 3_600_000;
        }
    }
}

proptest! {
    #[test]
    fn a_device_alerts_once_for_a_number_and_shows_in_the_end_what_is_unread(operations in operations()) {
        let mut world = World::new();
        for operation in &operations {
            world.run(*operation);
        }
        world.settle();
        let alerts = &world.device.alerts;
        prop_assert!(alerts.is_sorted_by(|a, b| a < b), "{alerts:?}");
        let last = world.next_seq();
        let all = world.newest(last, false);
        let must_show = world.newest(last, is_muted(world.muted_until(), world.now));
        let never_muted = !operations.iter().any(|operation| matches!(operation, Operation::Mute(true)));
        if let Some(newest) = must_show && never_muted {
            prop_assert!(world.device.shown.is_some_and(|shown| shown >= newest), "{newest} is lost: {world:?}");
        }
        if all.is_none() {
            prop_assert_eq!(world.device.shown, None, "it was read: {:?}", world);
        }
        if world.is_muted && must_show.is_none() {
            prop_assert_eq!(world.device.shown, None, "it is muted: {:?}", world);
        }
    }
}
