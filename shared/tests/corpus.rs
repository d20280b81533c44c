//! Any body is decoded or refused: those of `golden/corpus/bodies`, and random changes of them and of valid ones. Ids are
//! checked against a second implementation of their rule.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use shared::envelope::{self, decode_batch, encode_batch};
use shared::ids::{MsgId, Seq, UserId};
use shared::message::Numbered;
use shared::message::fixture::numbered;
use shared::shard::ShardId;

fn good() -> Vec<u8> {
    let message =
        |seq| Numbered { jump: seq == 2, ..numbered("group_101", seq, "alice", &format!("m{seq}")) };
    encode_batch(ShardId(7), [message(1), message(2), message(3)].iter())
}

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/corpus/bodies");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let mut bodies: Vec<_> = files.collect();
    bodies.sort();
    bodies.push(good());
    bodies
}

/// The property of any bytes.
fn check(body: &[u8]) -> Result<(), TestCaseError> {
    // Any result is right, as long as it does not panic.
    let _ = envelope::decode_events(body);
    let Ok(batch) = decode_batch(body) else { return Ok(()) };
    for message in &batch.messages {
        prop_assert!((1..=4_096).contains(&message.kind.content().len()));
        prop_assert!((1..=Seq::MAX.0).contains(&message.seq.0));
        // An accepted message is the same after another encoding.
        let again = decode_batch(&encode_batch(ShardId(0), std::iter::once(message))).unwrap();
        prop_assert_eq!(&again.messages[..], std::slice::from_ref(message));
    }
    for (_, refused) in &batch.refused {
        // A refused message is refused again: it is not lost in the dead-letter queue.
        let again = decode_batch(refused).unwrap();
        prop_assert_eq!((again.messages.len(), again.refused.len()), (0, 1));
    }
    Ok(())
}

#[test]
fn every_body_of_the_corpus_is_decoded_or_refused() {
    let bodies = corpus();
    assert!(bodies.len() >= 9, "the corpus is there");
    bodies.iter().for_each(|body| check(body).unwrap());
    assert_eq!(decode_batch(&good()).unwrap().messages.len(), 3);
}

/// The rule of the protocol, implemented again: 1 to 64 characters, no control characters, white space or braces.
fn is_id(text: &str) -> bool {
    let allowed = |c: char| !(c.is_control() || c.is_whitespace() || c == '{' || c == '}');
    (1..=64).contains(&text.chars().count()) && text.chars().all(allowed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_randomly_changed_body_is_decoded_or_refused(
        first in select(corpus()), second in select(corpus()),
        cut in any::<Index>(), join in any::<Index>(), flips in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..6),
    ) {
        let mut body = first[..cut.index(first.len() + 1)].to_vec();
        body.extend_from_slice(&second[join.index(second.len() + 1)..]);
        for (at, with) in flips {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = with;
            }
        }
        check(&body)?;
    }

    #[test]
    fn ids_follow_the_rule_of_the_protocol(text in "(\\PC|[ \\t\\n{}\u{0}\u{7f}\u{a0}\u{2028}😀]){0,70}") {
        prop_assert_eq!(UserId::parse(&text).is_ok(), is_id(&text));
        prop_assert_eq!(MsgId::parse(&text).is_ok(), is_id(&text));
    }
}
