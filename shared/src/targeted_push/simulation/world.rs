//! All parts, and what each operation does.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::redis::{Redis, States};
use super::{Answer, GATEWAYS, Operation, USERS, Without};
use crate::ids::UserId;
use crate::targeted_push::{Complete, Directory, Found, Records, Route, Write};

/// Fewer gateways get all events.
const FROM_GATEWAYS: usize = 4;
/// As in production, in milliseconds.
const LOGIN_WAIT: u64 = 1_000;
const BEAT_INTERVAL: u64 = 2_000;
const EXPIRY: u64 = 6_000;
const CHECK_INTERVAL: u64 = 2_000;

fn name(user: usize) -> UserId {
    UserId::parse(&format!("u{user}")).unwrap()
}

#[derive(Debug)]
struct Gateway {
    records: Records<usize>,
    checked: u64,
    is_cut: bool,
    /// The messages of each event, by user.
    queue: VecDeque<(usize, u64)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Client {
    gateway: Option<u64>,
    /// When it logged in, and whether that is not answered yet.
    login: Option<u64>,
    is_unrecorded: bool,
    seen: u64,
    has_to_pull: bool,
    /// Tells waits of earlier connections apart.
    connection: usize,
}

pub(super) struct World {
    without: Without,
    begun: Instant,
    now: u64,
    redis: Redis,
    gateways: Vec<Gateway>,
    clients: Vec<Client>,
    connections: usize,
    /// The last message to each user.
    heads: Vec<u64>,
    directory: Directory,
    committed: Option<(usize, u64)>,
    looked_up: Option<Route>,
    late: VecDeque<States>,
    /// Gateways that have not noticed the last flush. Redis does not start again before: then they would take the loss for one by
    /// the restart, of which the worker knows. See what decision 0015 says about what is left.
    unnoticed: BTreeSet<u64>,
}

/// This gateway is of an earlier version: it gets only what goes to all, and announces nothing. It is not in the liveness
/// registry, which would make all events go to all.
const EARLIER: u64 = 0;

impl World {
    pub(super) fn new(without: Without) -> Self {
        let begun = Instant::now();
        let gateway = |_| Gateway {
            records: Records::new(Duration::from_secs(21_600), begun),
            checked: 0,
            is_cut: false,
            queue: VecDeque::new(),
        };
        let directory = match without {
            Without::NewRunPause => Directory::without_pause(),
            _ => Directory::default(),
        };
        let mut world = Self {
            without,
            begun,
            now: 0,
            redis: Redis::default(),
            gateways: (0..GATEWAYS).map(gateway).collect(),
            clients: vec![Client::default(); USERS],
            connections: 0,
            heads: vec![0; USERS],
            directory,
            committed: None,
            looked_up: None,
            late: VecDeque::new(),
            unnoticed: BTreeSet::new(),
        };
        // Long enough that events go to some gateways.
        world.pass(20_000);
        world
    }

    fn time(&self) -> Instant {
        self.begun + Duration::from_millis(self.now)
    }

    fn is_without(&self, rule: Without) -> bool {
        self.without == rule
    }

    pub(super) fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Login(user, gateway) => self.log_in(user, gateway),
            Operation::Logout(user) => self.log_out(user),
            Operation::Pull(user) => self.pull(user),
            Operation::Record(gateway, answer) => self.record(gateway, answer),
            Operation::Deliver(gateway) => self.deliver(gateway),
            Operation::ReadGateways => self.read_gateways(),
            Operation::Commit(user) => self.commit(user),
            Operation::LookUp => self.look_up(),
            Operation::Publish => self.publish(),
            Operation::ArriveLate => {
                // The entries alone: the mark of the gateway may be at another server.
                if let Some(states) = self.late.pop_front() {
                    self.redis.record_entries(&states, self.is_without(Without::Revisions));
                }
            }
            Operation::Restart { .. } if !self.unnoticed.is_empty() => {}
            Operation::Restart { keeps } => {
                let run = self.redis.run + 1;
                let kept = if keeps { std::mem::take(&mut self.redis) } else { Redis::default() };
                self.redis = Redis { run, ..kept };
            }
            Operation::Flush => {
                self.redis = Redis { run: self.redis.run, ..Redis::default() };
                self.unnoticed = (0..GATEWAYS).collect();
            }
            Operation::Cut(gateway) => self.gateways[gateway as usize].is_cut = true,
            Operation::Mend(gateway) => self.gateways[gateway as usize].is_cut = false,
            Operation::Pass(milliseconds) => self.pass(milliseconds),
        }
    }

    fn log_in(&mut self, user: usize, gateway: u64) {
        self.log_out(user);
        self.connections += 1;
        self.clients[user] = Client {
            gateway: Some(gateway),
            login: Some(self.now),
            is_unrecorded: true,
            connection: self.connections,
            ..self.clients[user]
        };
        self.gateways[gateway as usize].records.changed(name(user), Some(self.connections));
        if self.is_without(Without::LoginWait) {
            self.answer(user);
        }
    }

    fn log_out(&mut self, user: usize) {
        if let Some(gateway) = self.clients[user].gateway.take() {
            self.gateways[gateway as usize].records.changed(name(user), None);
        }
        (self.clients[user].login, self.clients[user].has_to_pull) = (None, false);
    }

    fn answer(&mut self, user: usize) {
        (self.clients[user].login, self.clients[user].has_to_pull) = (None, true);
    }

    fn pull(&mut self, user: usize) {
        let client = &mut self.clients[user];
        if client.gateway.is_some() && std::mem::take(&mut client.has_to_pull) {
            client.seen = self.heads[user];
        }
    }

    fn is_here(&self, user: &UserId, gateway: u64) -> bool {
        self.clients.iter().enumerate().any(|(n, client)| name(n) == *user && client.gateway == Some(gateway))
    }

    fn record(&mut self, id: u64, answer: Answer) {
        let is_due = self.now >= self.gateways[id as usize].checked + CHECK_INTERVAL;
        if !is_due && !self.gateways[id as usize].records.is_behind() {
            return;
        }
        let write: Write<usize> = self.gateways[id as usize].records.next_write(2);
        let here = write.users.iter().map(|user| (user.clone(), self.is_here(user, id))).collect();
        let (states, begins) = ((id, here, write.revision), write.begins);
        let is_cut = self.gateways[id as usize].is_cut;
        if is_cut || answer != Answer::Arrives {
            match answer {
                _ if is_cut => {}
                Answer::WriteIsLate => self.late.push_back(states),
                Answer::Arrives | Answer::IsLost => _ = self.redis.record(&states, begins),
            }
            self.gateways[id as usize].records.failed(write);
            return;
        }
        let found = self.redis.record(&states, begins);
        let now = self.time();
        let written = self.gateways[id as usize].records.written(write, found, now);
        for connection in written.done {
            self.recorded(connection);
        }
        if let Some(Complete { runs, resync }) = written.complete {
            self.unnoticed.remove(&id);
            if resync && !self.is_without(Without::LostResync) {
                self.resync(id);
            }
            if id != EARLIER {
                self.redis.announced.insert(id, runs);
            }
        }
        if is_due {
            let runs = BTreeSet::from([self.redis.run.to_string()]);
            let all: Vec<UserId> = (0..USERS).map(name).filter(|user| self.is_here(user, id)).collect();
            let gateway = &mut self.gateways[id as usize];
            gateway.checked = self.now;
            gateway.records.checked(Some(runs), || all, now);
        }
    }

    fn catch_up(&mut self, id: u64) {
        while self.gateways[id as usize].records.is_behind() && !self.gateways[id as usize].is_cut {
            self.record(id, Answer::Arrives);
        }
    }

    fn recorded(&mut self, connection: usize) {
        let Some(user) = self.clients.iter().position(|client| client.connection == connection) else {
            return;
        };
        self.clients[user].is_unrecorded = false;
        if self.clients[user].gateway.is_none() {
            return;
        }
        if self.clients[user].login.is_some() {
            self.answer(user);
        } else if !self.is_without(Without::LateResync) && !self.is_without(Without::LoginWait) {
            self.clients[user].has_to_pull = true;
        }
    }

    fn resync(&mut self, gateway: u64) {
        let here = self.clients.iter_mut().filter(|client| client.gateway == Some(gateway));
        here.for_each(|client| client.has_to_pull |= client.login.is_none());
    }

    fn deliver(&mut self, gateway: u64) {
        let Some((user, seq)) = self.gateways[gateway as usize].queue.pop_front() else { return };
        let client = &mut self.clients[user];
        if client.gateway != Some(gateway) {
            return;
        }
        if seq == client.seen + 1 {
            client.seen = seq;
        } else if seq > client.seen && client.login.is_none() {
            client.has_to_pull = true;
        }
    }

    fn read_gateways(&mut self) {
        let (now, time) = (self.now, self.time());
        self.redis.beats.retain(|_, beat| now < *beat + EXPIRY);
        let announced: Vec<_> =
            self.redis.beats.keys().map(|gateway| self.redis.announced.get(gateway).cloned()).collect();
        self.directory.read(&announced, time);
    }

    fn commit(&mut self, user: usize) {
        if self.committed.is_none() {
            if self.is_without(Without::LookupAfterCommit) && self.looked_up.is_none() {
                self.find(user);
                return;
            }
            self.heads[user] += 1;
            self.committed = Some((user, self.heads[user]));
        }
    }

    fn look_up(&mut self) {
        if let (Some((user, _)), None) = (self.committed, &self.looked_up) {
            self.find(user);
        }
    }

    fn find(&mut self, user: usize) {
        let now = self.time();
        let of_user = self.redis.entries.keys().filter(|(of, _)| *of == name(user));
        let gateways: Vec<u64> = of_user.map(|(_, gateway)| *gateway).collect();
        let run = if self.is_without(Without::Runs) { 0 } else { self.redis.run };
        let at_earlier_version = gateways.contains(&EARLIER) && !self.is_without(Without::EarlierVersions);
        let found = Found { run: run.to_string(), gateways, at_earlier_version };
        self.looked_up = Some(match self.directory.is_worth_a_lookup(FROM_GATEWAYS, now) {
            true => self.directory.route([&found], [], now),
            false => Route::All,
        });
    }

    fn publish(&mut self) {
        let (Some(event), Some(route)) = (self.committed, self.looked_up.take()) else { return };
        self.committed = None;
        for (id, gateway) in (0..).zip(&mut self.gateways) {
            let is_concerned = match &route {
                Route::All => true,
                Route::Some(gateways) => gateways.contains(&id) && id != EARLIER,
            };
            if is_concerned {
                gateway.queue.push_back(event);
            }
        }
    }

    /// Time passes in steps in which heartbeats and checks keep their intervals.
    fn pass(&mut self, milliseconds: u64) {
        let mut left = milliseconds;
        while left > 0 {
            let step = left.min(500);
            left -= step;
            self.read_gateways();
            self.now += step;
            for id in 0..GATEWAYS {
                if !self.gateways[id as usize].is_cut && id != EARLIER {
                    let beat = self.redis.beats.entry(id).or_insert(0);
                    if self.now >= *beat + BEAT_INTERVAL {
                        *beat = self.now;
                    }
                }
                if self.now >= self.gateways[id as usize].checked + CHECK_INTERVAL {
                    self.record(id, Answer::Arrives);
                    self.catch_up(id);
                }
            }
            for user in 0..USERS {
                if self.clients[user].login.is_some_and(|login| self.now >= login + LOGIN_WAIT) {
                    self.answer(user);
                }
            }
        }
    }

    /// Nothing happens any more, and everything that is under way comes to its end.
    pub(super) fn settle(&mut self) {
        self.look_up();
        self.publish();
        while !self.late.is_empty() {
            self.apply(Operation::ArriveLate);
        }
        for id in 0..GATEWAYS {
            self.gateways[id as usize].is_cut = false;
        }
        for _ in 0..20 {
            self.pass(2_000);
            for id in 0..GATEWAYS {
                self.catch_up(id);
                while !self.gateways[id as usize].queue.is_empty() {
                    self.deliver(id);
                }
            }
            (0..USERS).for_each(|user| self.pull(user));
        }
    }

    /// The users that are connected and have missed a message.
    pub(super) fn behind(&self) -> Vec<usize> {
        (0..USERS)
            .filter(|user| {
                self.clients[*user].gateway.is_some() && self.clients[*user].seen < self.heads[*user]
            })
            .collect()
    }
}
