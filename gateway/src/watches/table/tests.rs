use super::*;

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn users(ids: &[&str]) -> Vec<UserId> {
    ids.iter().map(|id| user(id)).collect()
}

/// Watches and is read, once per second.
struct Played {
    table: Table,
    heartbeats: Heartbeats,
    start: Instant,
    second: u64,
}

impl Played {
    fn new() -> Self {
        Self { table: Table::default(), heartbeats: Heartbeats::default(), start: Instant::now(), second: 0 }
    }

    fn watch(&mut self, connection: u64, by: &str, watched: &[&str], online: &[&str]) -> Vec<(String, bool)> {
        let online = users(online).into_iter().collect();
        let answer = self.table.watch((connection, &user(by)), users(watched), &online);
        answer.into_iter().map(|(user, online)| (user.as_str().to_owned(), online)).collect()
    }

    /// A second later the gateways in `alive` have a new heartbeat, and `bob` has records of `gateways`.
    fn read(&mut self, alive: &[u64], gateways: &[u64]) -> Vec<(bool, Option<i64>, Vec<u64>)> {
        self.second += 1;
        let now = self.start + Duration::from_secs(self.second);
        let entries: Vec<_> = alive.iter().map(|id| (*id, self.second as f64)).collect();
        self.heartbeats.read(&entries, now);
        let now_ms = i64::try_from(self.second).unwrap() * 1_000;
        let told = self.table.read(&[(user("bob"), gateways.to_vec())], &self.heartbeats, (now, now_ms));
        let to = |told: Told| {
            let mut to: Vec<u64> = told.to.into_iter().map(|(connection, _)| connection).collect();
            to.sort_unstable();
            (told.online, told.last_seen_ms, to)
        };
        told.into_iter().map(to).collect()
    }
}

#[test]
fn coming_is_told_at_once_and_going_after_a_while() {
    let mut played = Played::new();
    assert_eq!(played.watch(1, "ann", &["bob"], &[]), [("bob".to_owned(), false)]);
    assert_eq!(played.read(&[7], &[]), []);
    assert_eq!(played.read(&[7], &[7]), [(true, None, vec![1])]);
    assert_eq!(played.read(&[7], &[7]), []);
    assert_eq!(played.watch(2, "eve", &["bob"], &[]), [("bob".to_owned(), true)], "as it was told");
    for _ in 4..10 {
        assert_eq!(played.read(&[7], &[]), []);
        assert_eq!(played.watch(3, "joe", &["bob"], &[]), [("bob".to_owned(), true)], "not told yet");
    }
    assert_eq!(played.read(&[7], &[]), [(false, Some(4_000), vec![1, 2, 3])]);
    assert_eq!(played.watch(4, "kim", &["bob"], &[]), [("bob".to_owned(), false)]);
}

#[test]
fn who_reconnects_in_between_has_not_been_away() {
    let mut played = Played::new();
    played.watch(1, "ann", &["bob"], &["bob"]);
    for _ in 0..5 {
        assert_eq!(played.read(&[7, 8], &[]), []);
    }
    assert_eq!(played.read(&[7, 8], &[8]), []);
    for _ in 0..6 {
        assert_eq!(played.read(&[7, 8], &[]), [], "counted anew");
    }
    assert_eq!(played.read(&[7, 8], &[]), [(false, Some(7_000), vec![1])]);
}

#[test]
fn the_users_of_a_gateway_that_died_are_offline_within_ten_seconds() {
    let mut played = Played::new();
    played.watch(1, "ann", &["bob"], &["bob"]);
    assert_eq!(played.read(&[7, 8], &[8]), []);
    assert_eq!(played.read(&[7, 8], &[8]), [], "the last heartbeat of 8: it dies in second 2 to 4");
    for _ in 3..8 {
        assert_eq!(played.read(&[7], &[8]), []);
    }
    let mut told_at = 0;
    while told_at == 0 {
        if let [(false, Some(_), _)] = played.read(&[7], &[8])[..] {
            told_at = played.second;
        }
    }
    assert!(
        (9..=10).contains(&told_at),
        "{told_at}: 5 s after second 4, at least, and 10 s after second 2, at most"
    );
}

#[test]
fn who_moved_from_a_gateway_that_died_leaves_like_any_other() {
    let mut played = Played::new();
    played.watch(1, "ann", &["bob"], &[]);
    assert_eq!(played.read(&[7, 8], &[8]), [(true, None, vec![1])]);
    for _ in 2..20 {
        assert_eq!(played.read(&[7], &[8, 7]), [], "the record of 8 stays behind");
    }
    for _ in 20..26 {
        assert_eq!(played.read(&[7], &[8]), []);
    }
    assert_eq!(played.read(&[7], &[8]), [(false, Some(20_000), vec![1])]);
}

#[test]
fn a_record_of_a_dead_gateway_does_not_make_a_user_online() {
    let mut played = Played::new();
    played.watch(1, "ann", &["bob"], &[]);
    for _ in 0..3 {
        assert_eq!(played.read(&[7], &[99]), []);
    }
    assert_eq!(played.read(&[7], &[99, 7]), [(true, None, vec![1])]);
}

#[test]
fn a_list_replaces_the_one_before_and_goes_with_its_connection() {
    let mut played = Played::new();
    played.watch(1, "ann", &["bob", "eve"], &[]);
    played.watch(2, "joe", &["bob"], &[]);
    assert_eq!(played.table.len_with(1, &users(&["kim"])), 2, "eve goes, bob stays, kim comes");
    assert_eq!(played.table.len_with(3, &users(&["kim", "bob"])), 3);
    played.watch(1, "ann", &["kim"], &[]);
    let mut watched = played.table.users();
    watched.sort_unstable();
    assert_eq!(watched, users(&["bob", "kim"]));
    assert_eq!(played.read(&[7], &[7]), [(true, None, vec![2])]);
    played.table.gone(2);
    assert_eq!(played.table.users(), users(&["kim"]));
    assert_eq!(played.watch(1, "ann", &[], &[]), []);
    assert!(played.table.is_empty() && played.table.users().is_empty());
    played.table.gone(1);
}

#[test]
fn who_is_blocked_is_told_nothing_any_more() {
    let mut played = Played::new();
    played.watch(1, "ann", &["bob"], &[]);
    played.watch(2, "joe", &["bob", "eve"], &[]);
    played.table.blocked(&user("bob"), &user("joe"));
    played.table.blocked(&user("eve"), &user("ann"));
    assert_eq!(played.read(&[7], &[7]), [(true, None, vec![1])]);
    played.table.blocked(&user("bob"), &user("ann"));
    assert_eq!(played.table.users(), users(&["eve"]));
}
