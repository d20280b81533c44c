//! Generated calls of every operation in `docs/api/openapi.yaml`, against a real gateway.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::json;
use testbed::client::{Caller, Client, Http};
use testbed::stack::System;
use tokio::process::Command;

use super::one_gateway;

/// Generated calls for each operation, unless `IM_FUZZ_EXAMPLES` says another number: for some seconds.
const EXAMPLES_DEFAULT: &str = "5";

/// The program, from `IM_SCHEMATHESIS` or the search path.
async fn schemathesis() -> Option<PathBuf> {
    let program = std::env::var_os("IM_SCHEMATHESIS").unwrap_or_else(|| "schemathesis".into());
    let version = Command::new(&program).arg("--version").output().await.ok()?;
    version.status.success().then(|| program.into())
}

/// The groups, users and messages that the examples of the specification name.
async fn prepare(system: &System) {
    let base = &system.http_urls()[0];
    let operator = Http::of_operator(base, system.operator_key());
    let alice = operator.with_caller(Caller::Operator {
        key: system.operator_key().to_owned(),
        user: Some("alice".to_owned()),
    });
    let group = json!({"conversation_id": "group_team", "name": "Team", "members": ["bob", "carol"]});
    alice.ok("POST", "/api/groups", Some(group)).await.unwrap();
    alice.ok("POST", "/api/blocks", Some(json!({"user_id": "eve"}))).await.unwrap();
    let token = token(system, "bob").await;
    let mut bob = Client::open(&format!("{}?token={token}", system.ws_urls()[0])).await.unwrap();
    for conversation in ["group_team", "private_alice_bob"] {
        for n in 0..3 {
            bob.say(conversation, &format!("m{n}"), "hello").await.unwrap();
        }
    }
}

async fn token(system: &System, user: &str) -> String {
    let operator = Http::of_operator(&system.http_urls()[0], system.operator_key());
    let minted = operator.ok("POST", "/api/admin/tokens", Some(json!({"user_id": user}))).await.unwrap();
    minted["token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_calls_are_answered_as_specified() {
    let Some(program) = schemathesis().await else {
        eprintln!(
            "NOT CHECKED: schemathesis is not installed. `make fuzz-api` installs it and runs this test."
        );
        return;
    };
    let system = one_gateway()
        // Otherwise any user may be named without proof.
        .set("IM__AUTH__MODE", "jwt")
        .set("IM__LIMITS__USER_LOGINS_PER_MINUTE", 0)
        .set("IM__LIMITS__ADDRESS_LOGINS_PER_MINUTE", 0)
        .set("IM__LIMITS__ADDRESS_CALLS_AT_ONCE", 0)
        .for_test()
        .await
        .unwrap();
    prepare(&system).await;
    let key = format!("X-Api-Key: {}", system.operator_key());
    // The operator acts for alice. Alice alone is refused more; without her own logout, which would end her token.
    let bearer = format!("Authorization: Bearer {}", token(&system, "alice").await);
    let callers: [&[&str]; 2] =
        [&["-H", &key, "-H", "X-User-Id: alice"], &["-H", &bearer, "--exclude-operation-id", "logout"]];
    for caller in callers {
        run(&program, &system, caller).await;
    }
    assert!(system.logs().join("gateway-0.log").exists());
}

/// One run; fails with the output if anything is not as specified.
async fn run(program: &PathBuf, system: &System, caller: &[&str]) {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api/schemathesis.toml");
    let examples = std::env::var("IM_FUZZ_EXAMPLES").unwrap_or_else(|_| EXAMPLES_DEFAULT.to_owned());
    let output = Command::new(program)
        .args(["--config-file", config, "run", &format!("{}/api/openapi.yaml", system.http_urls()[0])])
        .args(["--max-examples", &examples, "--no-color"])
        .args(caller)
        .current_dir(system.logs())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{text}");
}
