//! Sequence numbers, on a real Redis.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a failed helper is a failed test, and tasks end with its runtime"
)]

use std::time::Duration;

use fred::interfaces::{ConfigInterface as _, KeysInterface as _};
use shared::config;
use shared::conversation::Conversation;
use shared::ids::{MsgId, Seq, UserId};
use shared::message::{Fingerprint, fixture};
use shared::redis;
use shared::redis::liveness_registry::{LivenessRegistry, WorkerRegistry};
use shared::redis::sequence::{AssignedNumber, Floor, NumberRequest, Numbers, Sequence};
use testbed::stack::Stores;

mod support;

use support::{connect, raw_client};

fn group() -> Conversation {
    Conversation::from_key("group_1").unwrap()
}

fn fingerprint(body: &str) -> Fingerprint {
    fixture::text(body).fingerprint()
}

/// The number of an id that was used for this text.
fn known(seq: u64, body: &str) -> AssignedNumber {
    AssignedNumber::Known(Seq(seq), Some(fingerprint(body)))
}

async fn number(sequence: &Sequence, ids: &[&str], floor: Option<Floor>) -> Numbers {
    let sender = UserId::parse("alice").unwrap();
    let ids: Vec<_> = ids.iter().map(|id| MsgId::parse(id).unwrap()).collect();
    let messages = ids.iter().map(|id| (&sender, id, fingerprint("x"))).collect();
    let wanted = [NumberRequest { conversation: &group(), messages, floor }];
    sequence.next(&wanted).await.remove(0).unwrap()
}

fn assigned(jump: bool, numbers: &[AssignedNumber]) -> Numbers {
    Numbers::Assigned { jump, numbers: numbers.to_vec() }
}

#[tokio::test]
async fn a_counter_that_no_message_can_have_is_seeded_again() {
    use AssignedNumber::New;
    let mut stores = Stores::for_test().await.unwrap();
    let sequence = Sequence::new(connect(&stores).await, 60);
    let floor = Some(Floor { last: Seq(1_007), jump: true });
    for broken in ["9007199254740993", "9007199254740991", "99999999999999999999", "-5", "1e3", "1.5", "text"]
    {
        number(&sequence, &["first"], NEW_CONVERSATION).await;
        let redis = &mut stores.redis;
        redis.command(&["SET", "im:seq:{group_1}", broken]).await.unwrap();
        assert_eq!(number(&sequence, &[broken], None).await, Numbers::NoCounter, "{broken}");
        let numbers = number(&sequence, &[broken, "b"], floor).await;
        assert_eq!(numbers, assigned(true, &[New(Seq(1_008)), New(Seq(1_009))]), "{broken}");
        redis.command(&["SET", "im:seq:{group_1}", broken]).await.unwrap();
        assert_eq!(sequence.take_above(&group(), Seq(2_000), 3).await.unwrap(), Seq(2_001), "{broken}");
        redis.command(&["FLUSHALL"]).await.unwrap();
    }
    // A list instead of a number.
    stores.redis.command(&["LPUSH", "im:seq:{group_1}", "1"]).await.unwrap();
    assert_eq!(number(&sequence, &["a"], None).await, Numbers::NoCounter);
    assert_eq!(number(&sequence, &["a"], floor).await, assigned(true, &[New(Seq(1_008))]));
}

#[tokio::test]
async fn the_number_of_an_id_can_be_read_without_taking_one() {
    let stores = Stores::for_test().await.unwrap();
    let sequence = Sequence::new(connect(&stores).await, 60);
    let (group, alice) = (group(), UserId::parse("alice").unwrap());
    let read = async |id: &str| sequence.known(&group, &alice, &MsgId::parse(id).unwrap()).await.unwrap();
    assert_eq!(read("a").await, None);
    number(&sequence, &["a", "b"], NEW_CONVERSATION).await;
    assert_eq!((read("a").await, read("b").await, read("c").await), (Some(Seq(1)), Some(Seq(2)), None));
    // As it is stored when a worker has renumbered it.
    sequence.remember(&group, &alice, &MsgId::parse("a").unwrap(), Seq(7)).await.unwrap();
    assert_eq!(read("a").await, Some(Seq(7)));
    assert_eq!(sequence.last_assigned(&group).await.unwrap(), Some(Seq(2)));
}

const NEW_CONVERSATION: Option<Floor> = Some(Floor { last: Seq(0), jump: false });

#[tokio::test]
async fn seqs_increase_and_a_retry_gets_the_same_seq() {
    use AssignedNumber::New;
    let stores = Stores::for_test().await.unwrap();
    let sequence = Sequence::new(connect(&stores).await, 60);
    assert_eq!(number(&sequence, &["a"], None).await, Numbers::NoCounter);
    assert_eq!(
        number(&sequence, &["a", "b"], NEW_CONVERSATION).await,
        assigned(false, &[New(Seq(1)), New(Seq(2))])
    );
    assert_eq!(
        number(&sequence, &["b", "c", "a", "c"], None).await,
        assigned(false, &[known(2, "x"), New(Seq(3)), known(1, "x"), known(3, "x")])
    );
    // A floor counts only for a missing counter.
    let floor = Some(Floor { last: Seq(900), jump: true });
    assert_eq!(number(&sequence, &["d"], floor).await, assigned(false, &[New(Seq(4))]));
}

#[tokio::test]
async fn a_known_id_comes_with_the_fingerprint_of_its_message() {
    use AssignedNumber::{Known, New};
    let stores = Stores::for_test().await.unwrap();
    let sequence = Sequence::new(connect(&stores).await, 60);
    let (sender, chat) = (UserId::parse("alice").unwrap(), group());
    let ids: Vec<_> = ["a", "b", "c"].iter().map(|id| MsgId::parse(id).unwrap()).collect();
    let ask = async |asked: &[(usize, &str)]| {
        let messages = asked.iter().map(|(at, body)| (&sender, &ids[*at], fingerprint(body))).collect();
        let wanted = [NumberRequest { conversation: &chat, messages, floor: NEW_CONVERSATION }];
        match sequence.next(&wanted).await.remove(0).unwrap() {
            Numbers::Assigned { numbers, .. } => numbers,
            Numbers::NoCounter => panic!("the counter has a floor"),
        }
    };
    // In the same call, and in a later one.
    let numbers = ask(&[(0, "x"), (0, "y"), (0, "x"), (1, "x")]).await;
    assert_eq!(numbers, [New(Seq(1)), known(1, "x"), known(1, "x"), New(Seq(2))]);
    assert_eq!(ask(&[(0, "y"), (0, "x"), (1, "y")]).await, [known(1, "x"), known(1, "x"), known(2, "x")]);
    assert_eq!(sequence.last_assigned(&chat).await.unwrap(), Some(Seq(2)), "a reused id takes no number");
    // An earlier version reads the value as a number, and stores the number alone.
    let raw = raw_client(&stores).await;
    let key = "im:sent:{group_1}:5:alice:";
    let stored: String = raw.get(format!("{key}a")).await.unwrap();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as the earlier script does")]
    let number = stored.parse::<f64>().unwrap() as u64;
    assert_eq!(number, 1, "{stored}");
    raw.set::<(), _, _>(format!("{key}c"), "120", None, None, false).await.unwrap();
    assert_eq!(ask(&[(2, "x"), (2, "y")]).await, [Known(Seq(120), None), Known(Seq(120), None)]);
}

#[tokio::test]
async fn a_missing_counter_starts_above_the_floor_with_a_jump() {
    let stores = Stores::for_test().await.unwrap();
    let sequence = Sequence::new(connect(&stores).await, 60);
    let floor = Some(Floor { last: Seq(1_500), jump: true });
    assert_eq!(number(&sequence, &["a"], floor).await, assigned(true, &[AssignedNumber::New(Seq(1_501))]));
    assert_eq!(number(&sequence, &["b"], floor).await, assigned(false, &[AssignedNumber::New(Seq(1_502))]));
}

#[tokio::test]
async fn each_conversation_of_a_call_has_its_own_counter() {
    use AssignedNumber::New;
    let stores = Stores::for_test().await.unwrap();
    let sequence = Sequence::new(connect(&stores).await, 60);
    let groups = ["group_1", "group_2", "group_3"].map(|key| Conversation::from_key(key).unwrap());
    let sender = UserId::parse("alice").unwrap();
    let ids: Vec<_> = ["a", "b", "c"].iter().map(|id| MsgId::parse(id).unwrap()).collect();
    let ask = async |floors: [Option<Floor>; 3], asked: [&[usize]; 3]| {
        let of = groups.iter().zip(floors.into_iter().zip(asked));
        let wanted = of.map(|(conversation, (floor, asked))| NumberRequest {
            conversation,
            messages: asked.iter().map(|at| (&sender, &ids[*at], fingerprint("x"))).collect(),
            floor,
        });
        let answers = sequence.next(&wanted.collect::<Vec<_>>()).await;
        answers.into_iter().map(Result::unwrap).collect::<Vec<_>>()
    };
    let older = Some(Floor { last: Seq(1_500), jump: true });
    let none = Numbers::NoCounter;
    assert_eq!(ask([None; 3], [&[0], &[0], &[0]]).await, [none.clone(), none.clone(), none.clone()]);
    assert_eq!(
        ask([NEW_CONVERSATION, None, older], [&[0, 1, 0], &[0], &[2]]).await,
        [
            assigned(false, &[New(Seq(1)), New(Seq(2)), known(1, "x")]),
            none,
            assigned(true, &[New(Seq(1_501))])
        ]
    );
    assert_eq!(
        ask([None, NEW_CONVERSATION, None], [&[1, 2], &[0, 0], &[2, 1]]).await,
        [
            assigned(false, &[known(2, "x"), New(Seq(3))]),
            assigned(false, &[New(Seq(1)), known(1, "x")]),
            assigned(false, &[known(1_501, "x"), New(Seq(1_502))]),
        ]
    );
    assert!(sequence.next(&[]).await.is_empty());
}

#[tokio::test]
async fn a_counter_that_is_too_low_is_raised_and_final_seqs_are_remembered() {
    let stores = Stores::for_test().await.unwrap();
    let sequence = Sequence::new(connect(&stores).await, 60);
    number(&sequence, &["a", "b"], NEW_CONVERSATION).await;
    assert_eq!(sequence.take_above(&group(), Seq(50), 3).await.unwrap(), Seq(51));
    assert_eq!(sequence.take_above(&group(), Seq(50), 1).await.unwrap(), Seq(54));
    let (alice, a) = (UserId::parse("alice").unwrap(), MsgId::parse("a").unwrap());
    sequence.remember(&group(), &alice, &a, Seq(51)).await.unwrap();
    assert_eq!(
        number(&sequence, &["a"], None).await,
        assigned(false, &[AssignedNumber::Known(Seq(51), None)])
    );
}

#[tokio::test]
async fn parallel_batches_never_share_a_seq() {
    let stores = Stores::for_test().await.unwrap();
    let sequence = Sequence::new(connect(&stores).await, 60);
    number(&sequence, &["seed"], NEW_CONVERSATION).await;
    let batch = |n: usize| {
        let sequence = sequence.clone();
        tokio::spawn(async move {
            let ids: Vec<String> = (0..20).map(|i| format!("{n}-{i}")).collect();
            number(&sequence, &ids.iter().map(String::as_str).collect::<Vec<_>>(), None).await
        })
    };
    let mut all = Vec::new();
    for batch in futures_util::future::join_all((0..50).map(batch)).await {
        let Numbers::Assigned { numbers, .. } = batch.unwrap() else { panic!("the counter is there") };
        let seqs: Vec<u64> = numbers
            .iter()
            .map(|n| if let AssignedNumber::New(seq) = n { seq.0 } else { panic!("new") })
            .collect();
        assert!(seqs.is_sorted_by(|a, b| a < b), "in the order of the request: {seqs:?}");
        all.extend(seqs);
    }
    all.sort_unstable();
    assert_eq!(all, (2..=1_001).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_redis_that_may_evict_counters_is_refused() {
    let stores = Stores::for_test().await.unwrap();
    let admin = raw_client(&stores).await;
    admin.config_set("maxmemory-policy", "allkeys-lru").await.unwrap();
    let settings = config::Redis { url: stores.redis_url.as_str().into(), ..Default::default() };
    let refused = redis::connect(&settings, Duration::from_secs(10)).await.unwrap_err().to_string();
    assert!(refused.contains("redis.url") && refused.contains("noeviction"), "{refused}");
}

#[tokio::test]
async fn a_silent_worker_leaves_the_liveness_registry() {
    let stores = Stores::for_test().await.unwrap();
    let registry = LivenessRegistry::workers(connect(&stores).await, Duration::from_millis(300));
    assert_eq!(registry.beat("b").await.unwrap(), ["b"]);
    assert_eq!(registry.beat("a").await.unwrap(), ["a", "b"]);
    registry.leave("b").await.unwrap();
    assert_eq!(registry.beat("a").await.unwrap(), ["a"]);
    registry.beat("b").await.unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while registry.beat("a").await.unwrap() != ["a"] {
        assert!(std::time::Instant::now() < deadline, "b never expired");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_worker_that_knows_no_shares_is_seen_by_those_that_do() {
    let stores = Stores::for_test().await.unwrap();
    let client = connect(&stores).await;
    let earlier = LivenessRegistry::workers(client.clone(), Duration::from_secs(30));
    let registry = WorkerRegistry::new(client, Duration::from_secs(30));
    assert!(registry.beat("a").await.unwrap().know_shares);
    earlier.beat("b").await.unwrap();
    let mixed = registry.beat("c").await.unwrap();
    assert_eq!((mixed.ids, mixed.know_shares), (vec!["a".into(), "b".into(), "c".into()], false));
    earlier.leave("b").await.unwrap();
    registry.leave("a").await.unwrap();
    let left = registry.beat("c").await.unwrap();
    assert_eq!((left.ids, left.know_shares), (vec!["c".to_owned()], true));
}
