//! The load commands against a running deployment: tokens, no groups by use, default limits.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use testbed::stack::{Builder, DEMO_SECRET, System};
use tokio::process::Command;

/// A deployment as an operator would start it: tokens only, groups over HTTP only, default limits.
async fn deployment() -> System {
    let builder = Builder::new().workers(1);
    let builder = builder.set("IM__AUTH__MODE", "jwt").set("IM__GROUPS__AUTO_CREATE", "false");
    builder.set("IM__AUTH__ACCOUNTS", "false").for_test().await.unwrap()
}

async fn loadtest(system: &System, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(arguments.split_whitespace()).kill_on_drop(true);
    for gateway in system.ws_urls() {
        command.args(["--gateway", &gateway]);
    }
    command.output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn file(folder: &Path, name: &str, content: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, content).unwrap();
    file.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_with_the_secret_is_slowed_down_by_the_limit_and_says_which() {
    let (system, folder) = (deployment().await, tempfile::tempdir().unwrap());
    let secret = file(folder.path(), "secret", &format!("{DEMO_SECRET}\n"));
    let (json, html) = (folder.path().join("report.json"), folder.path().join("report.html"));
    // 260 messages of each sender: 200 at once, then 50 a second.
    let run = loadtest(
        &system,
        &format!(
            "burst --messages 1040 --groups 2 --senders 2 --listeners 1 --hs256-secret-file {secret} --json {} --html {}",
            json.display(),
            html.display()
        ),
    )
    .await;
    let (out, err) = (text(&run.stdout), text(&run.stderr));
    assert_eq!(run.status.code(), Some(3), "{out}\n{err}");
    assert!(out.contains("promises   kept: 1040 acked"), "{out}");
    assert!(out.contains("messages refused with 429"), "{out}");
    assert!(out.contains("limits.user_messages_per_second (50 by default)"), "{out}");
    assert!(out.contains("INCOMPLETE"), "{out}");
    let runs: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let run = &runs[0];
    assert_eq!(run["record"]["options"]["messages"], 1040, "{run}");
    assert_eq!(run["record"]["gateways"][0], system.ws_urls()[0], "{run}");
    assert!(run["record"]["date"].as_str().is_some_and(|date| date.ends_with("UTC")), "{run}");
    let refused = run["figures"]["refused"].as_u64().unwrap();
    assert!((1..1_000).contains(&refused), "{refused} refusals of 1,040 messages: retry_after_ms is obeyed");
    let html = std::fs::read_to_string(html).unwrap();
    assert!(html.contains(&system.ws_urls()[0]) && !html.contains(DEMO_SECRET));
    assert!(!runs.to_string().contains(DEMO_SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_burst_with_the_operators_key_is_complete() {
    let (system, folder) = (deployment().await, tempfile::tempdir().unwrap());
    let key = file(folder.path(), "key", system.operator_key());
    let options = format!("--operator-key-file {key}");
    let burst = "burst --messages 400 --groups 2 --senders 2 --listeners 1";
    let run = loadtest(&system, &format!("{burst} {options}")).await;
    let (out, err) = (text(&run.stdout), text(&run.stderr));
    assert_eq!(run.status.code(), Some(0), "{out}\n{err}");
    assert!(out.contains("heard      400 of 400"), "{out}");
    assert!(out.contains("result     complete"), "{out}");
    let idle = loadtest(&system, &format!("idle --connections 60 {options}")).await;
    assert_eq!(idle.status.code(), Some(0), "{}\n{}", text(&idle.stdout), text(&idle.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn scenarios_run_against_a_deployment_and_those_that_cannot_are_refused() {
    let (system, folder) = (deployment().await, tempfile::tempdir().unwrap());
    let secret = file(folder.path(), "secret", DEMO_SECRET);
    let options = format!("--hs256-secret-file {secret} --scale 0.01");
    let run = loadtest(&system, &format!("scenario private small-groups storm {options}")).await;
    let (out, err) = (text(&run.stdout), text(&run.stderr));
    assert!(matches!(run.status.code(), Some(0 | 3)), "{out}\n{err}");
    assert_eq!(out.matches("promises kept").count(), 3, "{out}");
    let refused = loadtest(&system, &format!("scenario worker-away {options}")).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("worker-away (it stops workers)"), "{}", text(&refused.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_fail_at_once_with_the_option_that_is_missing() {
    let (system, folder) = (deployment().await, tempfile::tempdir().unwrap());
    let without = loadtest(&system, "burst --messages 10").await;
    assert_eq!(without.status.code(), Some(4));
    assert!(text(&without.stderr).contains("--hs256-secret-file"), "{}", text(&without.stderr));
    let other = file(folder.path(), "other", "another secret of thirty-two bytes or more");
    let wrong = loadtest(&system, &format!("burst --messages 10 --hs256-secret-file {other}")).await;
    assert_eq!(wrong.status.code(), Some(4));
    assert!(text(&wrong.stderr).contains("auth.hs256_secret"), "{}", text(&wrong.stderr));
    assert!(!text(&wrong.stderr).contains("Bearer"), "no token in an error");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_capacity_model_is_measured_on_a_system_of_its_own_and_predicts_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("capacity.json");
    let capacity = async |arguments: String| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.arg("capacity").args(arguments.split_whitespace()).kill_on_drop(true);
        let output = command.output().await.unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let small = "--messages 1000 --seconds 2 --connections 0";
    let (code, out, err) = capacity(format!("{small} --json {}", json.display())).await;
    assert_eq!(code, Some(0), "{out}\n{err}");
    let written: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    for process in ["gateways", "workers", "MySQL", "Redis", "RabbitMQ"] {
        let cost = &written["inputs"]["costs"][process];
        let any = cost["message"].as_f64().unwrap() + cost["batch"].as_f64().unwrap();
        assert!(any > 0.0, "{process}: {written:#}");
    }
    assert!(written["inputs"]["storage"]["redis"].as_f64().unwrap() > 0.0, "{written:#}");
    let (code, out, err) =
        capacity(format!("--inputs {} --rate 1000 --pushes 10 --clients 5000", json.display())).await;
    assert_eq!(code, Some(0), "{out}\n{err}");
    assert!(out.contains("1000 messages/s, 10.0 pushes each, 5000 connections: "), "{out}");
    let (code, _, err) = capacity(format!("--inputs {}", json.display())).await;
    assert!(code == Some(2) && err.contains("without --rate"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everyday_load_is_measured_by_turns_with_another_build() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("everyday.json");
    let builds = Path::new(env!("CARGO_BIN_EXE_loadtest")).parent().unwrap();
    let arguments = format!(
        "everyday --rates 300 --seconds 1 --rounds 1 --rest-seconds 1 --set limits.batch_interval_ms=0 --against {} --json {}",
        builds.display(),
        json.display()
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    let run = command.args(arguments.split_whitespace()).kill_on_drop(true).output().await.unwrap();
    let (out, err) = (text(&run.stdout), text(&run.stderr));
    assert!(run.status.success(), "{out}\n{err}");
    assert!(out.contains("this build\n") && out.contains("at rest, 1000 idle connections"), "{out}");
    let written: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let builds = written["everyday"]["builds"].as_array().unwrap();
    assert_eq!(builds.len(), 2);
    for build in builds {
        let figures = &build["rates"][0];
        for key in ["ack_p50_ms", "ack_p99_ms", "push_p50_ms", "push_p99_ms"] {
            assert!(figures[key].as_f64().unwrap() > 0.0, "{key}: {build}");
        }
        for kind in ["gateways", "workers", "RabbitMQ", "MySQL"] {
            assert!(figures["cpu_us"][kind].as_f64().unwrap() > 0.0, "{kind}: {build}");
        }
    }
}
