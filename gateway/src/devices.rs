//! One connection per device, over all gateways: the newest one stays.
//!
//! A connection whose client named its device takes a rank from Redis after it is in the hub, and announces it. Every gateway
//! closes its connections of that device with lower ranks. An announcement may arrive before a connection has its rank: it is
//! remembered and compared then. So of any number of connections, on whatever gateways, the one with the highest rank stays.
//!
//! Two connections on one gateway are decided by the hub, in the order in which they registered. A connection that was
//! replaced there takes no part any more: its successor asks for a rank later, and has a higher one.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use proto::v1;
use shared::ids::{ConnectionId, DeviceId, UserId, unix_millis};
use shared::message::{origin_from_wire, origin_to_wire};
use shared::redis::device_ranks::DeviceRanks;
use shared::shutdown::Shutdown;

use crate::announce::Announcer;
use crate::identity::Identity;
use crate::outbox::Outbox;
use crate::wire::close::Close;

/// How long a login waits for its rank. Afterwards the clock of this gateway gives one, so that logins do not depend on Redis.
const RANK_TIMEOUT: Duration = Duration::from_secs(1);
/// Devices whose ranks are read in one round trip after events were lost.
const DEVICES_AT_ONCE: usize = 500;

/// The place of a connection among those of its device: a higher one is newer. Total, also if two ranks are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Microseconds since 1970.
    rank: u64,
    gateway: u64,
    connection: u64,
}

impl Rank {
    fn of(rank: u64, origin: ConnectionId) -> Self {
        Self { rank, gateway: origin.gateway, connection: origin.connection }
    }
}

/// A connection of a device.
#[derive(Debug)]
struct Claim {
    connection: u64,
    outbox: Arc<Outbox>,
    /// `None` until Redis has answered.
    rank: Option<Rank>,
}

/// The connections of one device here.
#[derive(Debug, Default)]
struct Device {
    claims: Vec<Claim>,
    /// The highest rank of the device that this gateway knows.
    newest: Option<Rank>,
}

impl Device {
    /// Takes notice of a rank, and closes the connections with lower ones. Returns whether there was one.
    fn heard(&mut self, rank: Rank) -> bool {
        self.newest = self.newest.max(Some(rank));
        let older = self.claims.iter().filter(|claim| claim.rank.is_some() && claim.rank < self.newest);
        let mut any = false;
        for claim in older {
            claim.outbox.close(Close::Replaced);
            any = true;
        }
        any
    }
}

/// The named devices that are connected here. Pure.
#[derive(Debug, Default)]
struct Claims {
    devices: AHashMap<(UserId, DeviceId), Device>,
}

impl Claims {
    /// A connection has registered. It will have a rank.
    fn begin(&mut self, who: &Identity, outbox: &Arc<Outbox>) {
        let device = self.devices.entry((who.user.clone(), who.device.clone())).or_default();
        device.claims.push(Claim {
            connection: who.origin.connection,
            outbox: Arc::clone(outbox),
            rank: None,
        });
    }

    /// The connection has its rank. Returns whether it is to be announced: whether the connection is the newest one, as far
    /// as this gateway knows.
    fn ranked(&mut self, who: &Identity, rank: Rank) -> bool {
        let Some(device) = self.devices.get_mut(&(who.user.clone(), who.device.clone())) else {
            return false;
        };
        let own = |claim: &&mut Claim| claim.connection == who.origin.connection;
        let Some(claim) = device.claims.iter_mut().find(own) else { return false };
        if claim.outbox.close_reason().is_some() {
            return false;
        }
        claim.rank = Some(rank);
        device.heard(rank);
        device.newest == Some(rank)
    }

    fn heard(&mut self, user: &UserId, device: &DeviceId, rank: Rank) -> bool {
        self.devices.get_mut(&(user.clone(), device.clone())).is_some_and(|device| device.heard(rank))
    }

    /// The connection has ended.
    fn gone(&mut self, who: &Identity) {
        let key = (who.user.clone(), who.device.clone());
        let Some(device) = self.devices.get_mut(&key) else { return };
        device.claims.retain(|claim| claim.connection != who.origin.connection);
        if device.claims.is_empty() {
            self.devices.remove(&key);
        }
    }
}

/// Keeps one connection per device, together with the other gateways.
#[derive(Debug)]
pub(crate) struct Devices {
    claims: Mutex<Claims>,
    ranks: DeviceRanks,
    announcer: Announcer,
    tasks: Shutdown,
}

impl Devices {
    /// Announces through `announcer`; what has to wait runs in `tasks`.
    #[must_use]
    pub(crate) fn new(ranks: DeviceRanks, announcer: Announcer, tasks: Shutdown) -> Self {
        Self { claims: Mutex::default(), ranks, announcer, tasks }
    }

    /// Makes a connection that is in the hub the only one of its device, unless a newer one exists, which closes this one.
    pub(crate) async fn claim(&self, who: &Identity, outbox: &Arc<Outbox>) {
        self.claims.lock().begin(who, outbox);
        let asked = tokio::time::timeout(RANK_TIMEOUT, self.ranks.next(&who.user, &who.device)).await;
        let rank = match asked {
            Ok(Ok(rank)) => rank,
            // Redis is unavailable. Gateways whose clocks agree still agree about the newest connection.
            _ => u64::try_from(unix_millis()).unwrap_or(0) * 1_000,
        };
        if self.claims.lock().ranked(who, Rank::of(rank, who.origin)) {
            self.announcer.announce(v1::event::Kind::DeviceConnected(v1::DeviceConnected {
                user_id: who.user.as_str().to_owned(),
                device_id: who.device.as_str().to_owned(),
                rank,
                origin: Some(origin_to_wire(who.origin)),
            }));
        }
    }

    /// The connection has ended. Nothing happens if it never claimed its device.
    pub(crate) fn gone(&self, who: &Identity) {
        self.claims.lock().gone(who);
    }

    /// A gateway announced a connection. Returns whether one here is older, and was closed.
    pub(crate) fn connected(&self, event: &v1::DeviceConnected) -> bool {
        let ids = UserId::parse(&event.user_id).ok().zip(DeviceId::parse(&event.device_id).ok());
        let (Some((user, device)), Some(origin)) = (ids, event.origin) else { return false };
        self.claims.lock().heard(&user, &device, Rank::of(event.rank, origin_from_wire(origin)))
    }

    /// Announcements may be lost: reads the last rank of every device that is connected here.
    pub(crate) fn events_lost(self: &Arc<Self>) {
        let devices = Arc::clone(self);
        let stop = self.tasks.clone();
        self.tasks.spawn(async move { stop.run_until_stopped(devices.check_all()).await });
    }

    async fn check_all(&self) {
        let all: Vec<(UserId, DeviceId)> = self.claims.lock().devices.keys().cloned().collect();
        for devices in all.chunks(DEVICES_AT_ONCE) {
            let last = match self.ranks.last(devices).await {
                Ok(last) => last,
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "Cannot read the ranks of devices from Redis; a device may stay connected to two gateways"
                    );
                    return;
                }
            };
            let mut claims = self.claims.lock();
            for ((user, device), rank) in devices.iter().zip(last) {
                // The lowest of that rank: it must not close the connection that has it.
                let rank = rank.map(|rank| Rank { rank, gateway: 0, connection: 0 });
                rank.into_iter().for_each(|rank| _ = claims.heard(user, device, rank));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity(gateway: u64, connection: u64) -> Identity {
        Identity {
            user: UserId::parse("alice").unwrap(),
            device: DeviceId::parse("phone").unwrap(),
            origin: ConnectionId { gateway, connection },
        }
    }

    fn is_closed(outbox: &Outbox) -> bool {
        outbox.close_reason() == Some(Close::Replaced)
    }

    #[test]
    fn a_connection_without_a_rank_is_compared_when_it_has_one() {
        let (who, outbox) = (identity(1, 1), Outbox::for_test());
        let mut claims = Claims::default();
        claims.begin(&who, &outbox);
        let newer = Rank::of(8, ConnectionId { gateway: 2, connection: 1 });
        assert!(!claims.heard(&who.user, &who.device, newer) && !is_closed(&outbox));
        assert!(!claims.ranked(&who, Rank::of(7, who.origin)), "it is not announced");
        assert!(is_closed(&outbox));
        claims.gone(&who);
        assert!(claims.devices.is_empty());
    }

    #[test]
    fn its_own_rank_read_from_redis_closes_no_connection() {
        let (who, outbox) = (identity(1, 1), Outbox::for_test());
        let mut claims = Claims::default();
        claims.begin(&who, &outbox);
        assert!(claims.ranked(&who, Rank::of(7, who.origin)));
        claims.heard(&who.user, &who.device, Rank { rank: 7, gateway: 0, connection: 0 });
        assert!(!is_closed(&outbox));
        claims.heard(&who.user, &who.device, Rank { rank: 8, gateway: 0, connection: 0 });
        assert!(is_closed(&outbox));
    }

    /// A step of connection `n`: 0 registers, 1 asks for its rank, 2 receives it; then announcements arrive one by one.
    fn play(gateways: u64, order: &[usize], deliveries: &[usize]) -> Vec<bool> {
        let count = 6;
        let mut claims: Vec<Claims> = (0..gateways).map(|_| Claims::default()).collect();
        let mut here: Vec<Vec<usize>> = vec![Vec::new(); claims.len()];
        let outboxes: Vec<_> = (0..count).map(|_| Outbox::for_test()).collect();
        let whos: Vec<_> = (0..count as u64).map(|n| identity(n % gateways, n)).collect();
        let (mut clock, mut steps, mut ranks) = (0, vec![0; count], vec![0; count]);
        let mut queues: Vec<Vec<Rank>> = vec![Vec::new(); claims.len()];
        let steps_of_all = order.iter().copied().chain((0..count).flat_map(|n| [n; 3]));
        for (at, n) in steps_of_all.enumerate() {
            let gateway = n % claims.len();
            match steps[n] {
                0 => {
                    // As the hub does: an older connection here is closed.
                    here[gateway].drain(..).for_each(|older| outboxes[older].close(Close::Replaced));
                    here[gateway].push(n);
                    claims[gateway].begin(&whos[n], &outboxes[n]);
                }
                1 => {
                    clock += 1;
                    ranks[n] = clock;
                }
                2 => {
                    let rank = Rank::of(ranks[n], whos[n].origin);
                    if claims[gateway].ranked(&whos[n], rank) {
                        queues.iter_mut().for_each(|queue| queue.push(rank));
                    }
                }
                _ => {}
            }
            steps[n] += 1;
            if let Some(delivery) = deliveries.get(at) {
                deliver(&mut claims, &mut queues, delivery % gateways as usize, &whos[0]);
            }
        }
        for gateway in 0..claims.len() {
            while !queues[gateway].is_empty() {
                deliver(&mut claims, &mut queues, gateway, &whos[0]);
            }
        }
        outboxes.iter().map(|outbox| !is_closed(outbox)).collect()
    }

    fn deliver(claims: &mut [Claims], queues: &mut [Vec<Rank>], gateway: usize, who: &Identity) {
        if !queues[gateway].is_empty() {
            let rank = queues[gateway].remove(0);
            claims[gateway].heard(&who.user, &who.device, rank);
        }
    }

    proptest! {
        #[test]
        fn exactly_one_connection_stays(
            gateways in 1u64..4,
            order in proptest::collection::vec(0usize..6, 0..30),
            deliveries in proptest::collection::vec(0usize..8, 0..30),
        ) {
            let open = play(gateways, &order, &deliveries);
            prop_assert_eq!(open.iter().filter(|open| **open).count(), 1, "{:?}", open);
        }
    }
}
