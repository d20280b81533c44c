//! Which server has which slots of a Redis Cluster, and which server is the master behind Sentinel. Pure.

use std::collections::BTreeMap;

use fred::types::Value;

use super::redirect::Address;

/// The slots of every Redis Cluster.
pub(super) const SLOTS: usize = 16_384;

/// Consecutive slots, and their master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotRange {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) master: Address,
}

/// Reads the answer to `CLUSTER SLOTS` of the server `from`; `None` if it is no such answer.
pub(super) fn slot_ranges(answer: Value, from: &Address) -> Option<Vec<SlotRange>> {
    let Value::Array(ranges) = answer else { return None };
    ranges.into_iter().map(|range| slot_range(range, from)).collect()
}

fn slot_range(range: Value, from: &Address) -> Option<SlotRange> {
    let Value::Array(range) = range else { return None };
    let [first, last, Value::Array(master), ..] = &range[..] else { return None };
    let number = |value: &Value| u16::try_from(value.as_i64()?).ok();
    let (first, last) = (number(first)?, number(last)?);
    if first > last || usize::from(last) >= SLOTS {
        return None;
    }
    // A server that does not know its own host says NULL, or nothing.
    let host = master.first()?.as_string().filter(|host| !host.is_empty() && host != "?");
    let master = Address { host: host.unwrap_or_else(|| from.host.clone()), port: number(master.get(1)?)? };
    Some(SlotRange { first, last, master })
}

/// What one Sentinel says about the master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedMaster {
    /// The number of the failover that made it the master.
    epoch: u64,
    address: Address,
}

impl NamedMaster {
    /// Reads the answers to `SENTINEL GET-MASTER-ADDR-BY-NAME`, which names the new master first, and to `SENTINEL MASTER`.
    pub(super) fn of(address: &Value, details: &Value) -> Option<Self> {
        let (Value::Array(parts), Value::Array(details)) = (address, details) else { return None };
        let [host, port] = &parts[..] else { return None };
        let address = Address { host: host.as_string()?, port: port.as_string()?.parse().ok()? };
        let mut fields = details.chunks_exact(2);
        let epoch = fields.find(|field| field[0].as_string().as_deref() == Some("config-epoch"))?;
        Some(Self { epoch: epoch[1].as_string()?.parse().ok()?, address })
    }
}

/// The master of the last failover that any Sentinel knows; of several, the one that most name. A Sentinel that is cut off, or
/// has not heard of the failover yet, still names the old one.
pub(super) fn newest_master(named: impl IntoIterator<Item = NamedMaster>) -> Option<Address> {
    let mut votes: BTreeMap<(u64, Address), usize> = BTreeMap::new();
    for NamedMaster { epoch, address } in named {
        *votes.entry((epoch, address)).or_default() += 1;
    }
    votes.into_iter().max_by_key(|((epoch, _), count)| (*epoch, *count)).map(|((_, master), _)| master)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(values: impl IntoIterator<Item = Value>) -> Value {
        Value::Array(values.into_iter().collect())
    }

    fn node(host: Value, port: i64) -> Value {
        list([host, port.into(), "id".into()])
    }

    #[test]
    fn slots_are_those_of_masters() {
        let from = Address { host: "10.0.0.9".to_owned(), port: 1 };
        let answer = list([
            list([0.into(), 5_460.into(), node("10.0.0.1".into(), 6_379), node("10.0.0.4".into(), 6_379)]),
            list([5_461.into(), 16_383.into(), node(Value::Null, 6_380)]),
        ]);
        let ranges = slot_ranges(answer, &from).unwrap();
        let shown: Vec<_> = ranges.iter().map(|r| (r.first, r.last, r.master.to_string())).collect();
        assert_eq!(shown, [(0, 5_460, "10.0.0.1:6379".into()), (5_461, 16_383, "10.0.0.9:6380".into())]);
        for answer in
            [Value::Null, list([list([1.into()])]), list([list([2.into(), 1.into(), node("a".into(), 1)])])]
        {
            assert_eq!(slot_ranges(answer, &from), None);
        }
    }

    #[test]
    fn the_master_is_that_of_the_last_failover() {
        let named = |host: &str, epoch: &str| {
            let details = list(["name".into(), "im".into(), "config-epoch".into(), epoch.into()]);
            NamedMaster::of(&list([host.into(), "6379".into()]), &details).unwrap()
        };
        let master = |named: Vec<NamedMaster>| newest_master(named).map(|master| master.host);
        assert_eq!(
            master(vec![named("old", "1"), named("new", "2"), named("old", "1")]),
            Some("new".to_owned())
        );
        assert_eq!(master(vec![named("a", "1"), named("b", "1"), named("a", "1")]), Some("a".to_owned()));
        assert_eq!(master(vec![]), None);
        assert_eq!(NamedMaster::of(&Value::Null, &list([])), None);
        assert_eq!(NamedMaster::of(&list(["a".into(), "1".into()]), &list([])), None);
    }
}
