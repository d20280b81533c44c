//! Acknowledgement of deliveries, as the last step: acknowledged messages are durable and announced.
//!
//! Pure. The deliveries of a channel are numbered from 1 without gaps. A body is acknowledged when all of its messages are
//! settled: a settled prefix with one acknowledgement, bodies behind a held one individually, so that held bodies occupy
//! only their own places in the prefetch window.

use std::collections::VecDeque;

use crate::commit::pending::DeliveryTag;

/// An acknowledgement to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    /// The delivery.
    pub(crate) tag: DeliveryTag,
    /// Acknowledges all deliveries before it as well.
    pub(crate) multiple: bool,
}

#[derive(Debug)]
struct Open {
    /// How many of its messages are not settled.
    unsettled: usize,
    acked: bool,
    /// When its body was published, in seconds since the Unix epoch, if it is known.
    published_s: Option<u64>,
}

/// The unacknowledged deliveries of one channel.
#[derive(Debug)]
pub(crate) struct Deliveries {
    /// Tag of the first element of `open`.
    first: DeliveryTag,
    open: VecDeque<Open>,
    /// Settled since the last acknowledgement, in any order.
    settled: Vec<DeliveryTag>,
    unacknowledged: usize,
}

impl Default for Deliveries {
    fn default() -> Self {
        Self { first: 1, open: VecDeque::new(), settled: Vec::new(), unacknowledged: 0 }
    }
}

impl Deliveries {
    /// The deliveries of a new channel.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a delivery with `messages` messages; its tag is one above the last one's. Without messages it is settled.
    /// `published_s`: when its body was published, in seconds since the Unix epoch.
    pub(crate) fn opened(&mut self, tag: DeliveryTag, messages: usize, published_s: Option<u64>) {
        debug_assert_eq!(tag, self.first + self.open.len() as u64, "tags rise by one");
        self.open.push_back(Open { unsettled: messages, acked: false, published_s });
        self.unacknowledged += 1;
        if messages == 0 {
            self.settled.push(tag);
        }
    }

    /// Settles one message of a delivery.
    pub(crate) fn settle(&mut self, tag: DeliveryTag) {
        if let Some(open) = self.get(tag) {
            open.unsettled = open.unsettled.saturating_sub(1);
            if open.unsettled == 0 {
                self.settled.push(tag);
            }
        }
    }

    /// The acknowledgements that are due.
    pub(crate) fn acks(&mut self) -> Vec<Ack> {
        let mut acks = Vec::new();
        // The tag itself must be unacknowledged; the broker closes the channel otherwise.
        let mut last_unacked = None;
        while self.open.front().is_some_and(|open| open.unsettled == 0) {
            if self.open.pop_front().is_some_and(|open| !open.acked) {
                last_unacked = Some(self.first);
                self.unacknowledged -= 1;
            }
            self.first += 1;
        }
        acks.extend(last_unacked.map(|tag| Ack { tag, multiple: true }));
        for tag in std::mem::take(&mut self.settled) {
            let Some(open) = self.get(tag).filter(|open| !open.acked) else { continue };
            open.acked = true;
            self.unacknowledged -= 1;
            acks.push(Ack { tag, multiple: false });
        }
        acks
    }

    /// How many places of the prefetch window are occupied after the due acknowledgements are sent.
    #[must_use]
    pub(crate) fn unacknowledged(&self) -> usize {
        self.unacknowledged
    }

    /// When the oldest unsettled body was published, in seconds since the Unix epoch.
    #[must_use]
    pub(crate) fn oldest_published_s(&self) -> Option<u64> {
        self.open.iter().find(|open| open.unsettled > 0)?.published_s
    }

    fn get(&mut self, tag: DeliveryTag) -> Option<&mut Open> {
        self.open.get_mut(usize::try_from(tag.checked_sub(self.first)?).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn all(tag: DeliveryTag) -> Ack {
        Ack { tag, multiple: true }
    }

    fn one(tag: DeliveryTag) -> Ack {
        Ack { tag, multiple: false }
    }

    #[test]
    fn the_oldest_body_is_the_first_one_that_is_not_settled() {
        let mut deliveries = Deliveries::new();
        assert_eq!(deliveries.oldest_published_s(), None);
        for (tag, published_s) in [(1, 100), (2, 103), (3, 101)] {
            deliveries.opened(tag, 1, Some(published_s));
        }
        assert_eq!(deliveries.oldest_published_s(), Some(100));
        deliveries.settle(1);
        assert_eq!(deliveries.oldest_published_s(), Some(103));
        deliveries.settle(3);
        deliveries.settle(2);
        assert_eq!(deliveries.oldest_published_s(), None);
    }

    #[test]
    fn a_settled_prefix_takes_one_acknowledgement_and_the_rest_one_each() {
        let mut deliveries = Deliveries::new();
        for (tag, messages) in [(1, 1), (2, 2), (3, 1), (4, 0), (5, 1)] {
            deliveries.opened(tag, messages, Some(tag));
        }
        for tag in [1, 2, 3] {
            deliveries.settle(tag);
        }
        assert_eq!(deliveries.acks(), [all(1), one(4), one(3)]);
        assert_eq!(deliveries.acks(), []);
        deliveries.settle(2);
        assert_eq!(deliveries.acks(), [all(2)]);
        deliveries.settle(5);
        assert_eq!(deliveries.acks(), [all(5)]);
    }

    proptest! {
        #[test]
        fn exactly_the_settled_deliveries_are_acknowledged(
            sizes in proptest::collection::vec(0usize..4, 1..20),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..60),
            ack_every in 1usize..5,
        ) {
            let mut deliveries = Deliveries::new();
            let mut left = sizes.clone();
            let mut acked = BTreeSet::new();
            for (tag, size) in (1..).zip(&sizes) {
                deliveries.opened(tag, *size, None);
            }
            for (step, pick) in order.iter().enumerate() {
                let at = pick.index(sizes.len());
                if left[at] > 0 {
                    left[at] -= 1;
                    deliveries.settle(at as u64 + 1);
                }
                if step % ack_every == 0 || step + 1 == order.len() {
                    for ack in deliveries.acks() {
                        prop_assert!(acked.insert(ack.tag), "{} is acknowledged twice", ack.tag);
                        if ack.multiple {
                            acked.extend(1..=ack.tag);
                        }
                    }
                    let settled: BTreeSet<u64> =
                        (1..).zip(&left).filter(|(_, left)| **left == 0).map(|(tag, _)| tag).collect();
                    prop_assert_eq!(&acked, &settled);
                }
            }
        }
    }
}
