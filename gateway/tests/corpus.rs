//! Whatever a client sends is understood or refused with a sentence: the frames of `golden/corpus/frames`, and what
//! chance makes of them.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::path::Path;

use gateway::wire::request::{Request, parse};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use shared::message::BODY_BYTES_MAX;

fn corpus() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/corpus/frames");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
    };
    let mut frames: Vec<_> = files.map(read).collect();
    frames.sort();
    frames
}

/// What must hold for any text at all.
fn check(text: &str) -> Result<(), TestCaseError> {
    match parse(text) {
        Ok((_, request)) => {
            if let Request::Chat(chat) = request {
                prop_assert!((1..=BODY_BYTES_MAX).contains(&chat.kind.content().len()));
                let id = chat.msg_id.map_or(1, |id| id.as_str().chars().count());
                prop_assert!((1..=64).contains(&id));
            }
        }
        Err((echo, refusal)) => {
            let frame = echo.refuse(&refusal);
            let answer: serde_json::Value = serde_json::from_str(&frame).unwrap();
            prop_assert!(matches!(answer["code"].as_u64(), Some(400 | 413)), "{}", frame);
            // An answer is not a way to make the server send much.
            prop_assert!(frame.len() < 8 * 1024, "{} bytes", frame.len());
        }
    }
    Ok(())
}

#[test]
fn every_frame_of_the_corpus_is_parsed_or_refused() {
    let frames = corpus();
    assert!(frames.len() >= 20, "the corpus is there");
    let mut understood = Vec::new();
    for (name, text) in &frames {
        check(text).unwrap();
        if parse(text).is_ok() {
            understood.push(name.as_str());
        }
    }
    for name in ["heartbeat", "login", "chat", "pull", "ack", "content-of-4096", "id-of-64-emoji"] {
        assert!(understood.contains(&name), "{name}");
    }
    for name in
        ["array", "bom", "braces", "content-of-4097", "id-of-65", "lone-surrogate", "nested", "trailing"]
    {
        assert!(!understood.contains(&name), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_randomly_changed_frame_is_parsed_or_refused(
        first in select(corpus()), second in select(corpus()),
        cut in any::<Index>(), join in any::<Index>(), flips in proptest::collection::vec((any::<Index>(), any::<char>()), 0..4),
    ) {
        let (a, b): (Vec<char>, Vec<char>) = (first.1.chars().collect(), second.1.chars().collect());
        // The beginning of one, the end of another, and some characters replaced.
        let mut text: Vec<char> = a[..cut.index(a.len() + 1)].to_vec();
        text.extend(&b[join.index(b.len() + 1)..]);
        for (at, with) in flips {
            if !text.is_empty() {
                let at = at.index(text.len());
                text[at] = with;
            }
        }
        check(&text.into_iter().collect::<String>())?;
    }
}
