//! The web client in a real browser, against two real gateways, one of which is killed and started again.
//!
//! The scenarios are in `clients/web/test/e2e.mjs`; each test here starts a system and plays one. Where the browser, Node
//! or the packages of the page are missing, the tests say so and pass; with `IM_BROWSER_TESTS=required` they fail.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use testbed::client::Client;
use testbed::stack::{Builder, System};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

/// For one scenario; the test runner ends a test after four minutes.
const TIMEOUT: Duration = Duration::from_secs(200);
/// Requests of one connection that are unanswered at a time; a gateway takes 256.
const WINDOW: usize = 200;

fn page_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/web")
}

/// What is missing for tests in a browser.
fn missing() -> Option<&'static str> {
    let has_node = std::process::Command::new("node")
        .args(["-e", "const [a, b] = process.versions.node.split('.').map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)"])
        .status()
        .is_ok_and(|status| status.success());
    let browsers = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let has_browser =
        std::env::var_os("CHROMIUM").is_some() || browsers.iter().any(|path| Path::new(path).exists());
    if !has_node {
        Some("Node.js 20.19 or later")
    } else if !has_browser {
        Some("Chromium (Debian's package chromium, or its path in CHROMIUM)")
    } else if !page_folder().join("node_modules/playwright-core").exists() {
        Some("the packages of clients/web (npm ci in that folder)")
    } else {
        None
    }
}

/// Two gateways with the settings that a deployment has by default, as far as a demo has them.
fn two_gateways() -> Builder {
    Builder::new().gateways(2).workers(1).unlimited().set("IM__LISTEN__ALLOWED_ORIGINS", "")
}

/// Plays a scenario, unless the browser is missing.
async fn play(scenario: &str, builder: Builder) {
    play_of("test/e2e.mjs", scenario, builder).await;
}

/// Plays a scenario of this script.
async fn play_of(script: &str, scenario: &str, builder: Builder) {
    if let Some(what) = missing() {
        assert!(std::env::var("IM_BROWSER_TESTS").as_deref() != Ok("required"), "missing: {what}");
        // Not with a macro, whose output the test runner keeps for itself.
        let _ = writeln!(std::io::stderr(), "BROWSER TEST SKIPPED ({scenario}): missing: {what}");
        return;
    }
    let mut system = builder.for_test().await.unwrap();
    let mut child = Command::new("node")
        .arg(script)
        .arg(scenario)
        .current_dir(page_folder())
        .env("GATEWAYS", system.http_urls().join(" "))
        .env("OPERATOR_KEY", system.operator_key())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let played = tokio::time::timeout(TIMEOUT, serve(&mut system, &mut child)).await;
    if !matches!(played, Ok(Ok(()))) {
        system.keep_logs();
    }
    played.unwrap_or_else(|_| panic!("{scenario} took longer than {TIMEOUT:?}")).unwrap();
    system.stop().await;
}

/// Does what the scenario asks for, until it ends.
async fn serve(system: &mut System, child: &mut Child) -> anyhow::Result<()> {
    let mut answers = child.stdin.take().context("no standard input")?;
    let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
    while let Some(line) = lines.next_line().await? {
        match line.strip_prefix('@') {
            None => println!("{line}"),
            Some(request) => {
                let answer = match done(system, request).await {
                    Ok(()) => "ok\n".to_owned(),
                    Err(error) => format!("{request}: {error:#}\n"),
                };
                answers.write_all(answer.as_bytes()).await?;
            }
        }
    }
    let status = child.wait().await?;
    anyhow::ensure!(status.success(), "the scenario failed: {status}");
    Ok(())
}

async fn done(system: &mut System, request: &str) -> anyhow::Result<()> {
    let (name, rest) = request.split_once(' ').context("no argument")?;
    match name {
        "kill" => system.gateway(rest.parse()?).kill(),
        "start" => system.gateway(rest.parse()?).start_again().await?,
        // say GATEWAY USER CONVERSATION COUNT TEXT
        "say" => {
            let [gateway, user, conversation, count, text] = arguments(rest)?;
            let frame = |n: usize| json!({"conversation_id": conversation, "payload": {"content": format!("{text} {n}")}});
            send(gateway, user, count.parse()?, frame).await?;
        }
        // conversations GATEWAY USER COUNT
        "conversations" => {
            let [gateway, user, count] = arguments(rest)?;
            let frame = |n: usize| json!({"to": format!("peer-{n}-{user}"), "payload": {"content": "hello"}});
            send(gateway, user, count.parse()?, frame).await?;
        }
        // frame GATEWAY USER FRAME
        "frame" => {
            let [gateway, user, frame] = arguments(rest)?;
            let frame: Value = serde_json::from_str(frame)?;
            send(gateway, user, 1, |_| frame.clone()).await?;
        }
        _ => anyhow::bail!("unknown request"),
    }
    Ok(())
}

/// The words of a request; the last one may contain spaces.
fn arguments<const N: usize>(text: &str) -> anyhow::Result<[&str; N]> {
    text.splitn(N, ' ').collect::<Vec<_>>().try_into().map_err(|_| anyhow::anyhow!("{N} arguments"))
}

/// Sends `count` messages as fast as one connection may, and waits until they are stored.
async fn send(gateway: &str, user: &str, count: usize, frame: impl Fn(usize) -> Value) -> anyhow::Result<()> {
    let address = format!("{}/ws?user_id={user}", gateway.replacen("http", "ws", 1));
    let mut client = Client::open(&address).await?;
    let run = uuid::Uuid::new_v4().simple().to_string();
    let mut answered = 0;
    for n in 0..count {
        let mut frame = frame(n);
        frame["cmd"] = json!(2);
        frame["msg_id"] = json!(format!("{run}-{n}"));
        frame["payload"]["ack"] = json!("stored");
        client.send(frame.to_string()).await?;
        while n + 1 - answered >= if n + 1 == count { 1 } else { WINDOW } {
            let reply = client.wait_for(|packet| packet.cmd == 2).await?;
            anyhow::ensure!(reply.code == 0, "{reply:?}");
            answered += 1;
        }
    }
    Ok(())
}

/// The status and the policy of a response to `HEAD` or `GET`.
async fn response(system: &System, method: reqwest::Method, path: &str) -> (u16, Option<String>) {
    let url = format!("{}{path}", system.http_urls()[0]);
    let response = reqwest::Client::new().request(method, url).send().await.unwrap();
    let policy = response.headers().get("content-security-policy");
    (response.status().as_u16(), policy.map(|policy| policy.to_str().unwrap().to_owned()))
}

#[tokio::test]
async fn the_page_is_served_with_its_policy_unless_it_is_disabled() {
    let system = two_gateways().for_test().await.unwrap();
    for method in [reqwest::Method::GET, reqwest::Method::HEAD] {
        for path in ["/", "/?x=1", "/web/app.js", "/web/app.css"] {
            let (status, policy) = response(&system, method.clone(), path).await;
            assert_eq!(status, 200, "{method} {path}");
            assert!(policy.unwrap().contains("default-src 'none'; script-src 'self'"), "{method} {path}");
        }
    }
    assert_eq!(response(&system, reqwest::Method::POST, "/").await.0, 405);
    assert_eq!(response(&system, reqwest::Method::GET, "/web/none.js").await, (404, None));
    system.stop().await;
    let system = two_gateways().set("IM__WEB__ENABLED", "false").for_test().await.unwrap();
    for path in ["/", "/web/app.js"] {
        assert_eq!(response(&system, reqwest::Method::GET, path).await, (404, None), "{path}");
    }
    system.stop().await;
}

#[tokio::test]
async fn two_users_chat_across_two_gateways() {
    play("chat", two_gateways()).await;
}

#[tokio::test]
async fn a_user_who_was_offline_catches_up_and_sends_what_was_written() {
    play("offline", two_gateways()).await;
}

#[tokio::test]
async fn nothing_is_lost_or_shown_twice_if_a_gateway_is_killed() {
    play("killed", two_gateways()).await;
}

#[tokio::test]
async fn a_burst_of_2000_messages_keeps_the_place_and_the_page_answers() {
    play("burst", two_gateways()).await;
}

#[tokio::test]
async fn what_was_read_before_a_reload_stays_read() {
    play("read", two_gateways()).await;
}

#[tokio::test]
async fn two_tabs_show_the_same() {
    play("tabs", two_gateways()).await;
}

#[tokio::test]
async fn a_token_that_ends_is_renewed_and_nothing_that_was_typed_is_lost() {
    play("renewal", two_gateways().set("IM__AUTH__TOKEN_TTL_S", 25)).await;
}

#[tokio::test]
async fn groups_are_made_changed_left_and_dismissed() {
    play("groups", two_gateways()).await;
}

#[tokio::test]
async fn content_is_text_whatever_it_is() {
    play("content", two_gateways()).await;
}

#[tokio::test]
async fn an_unavailable_gateway_is_named_and_waited_for() {
    play("unavailable", two_gateways()).await;
}

#[tokio::test]
async fn a_clock_that_differs_by_an_hour_is_named_and_harmless() {
    play("clock", two_gateways()).await;
}

#[tokio::test]
async fn a_hidden_page_notifies_and_takes_the_notification_back() {
    play("notifications", two_gateways()).await;
}

#[tokio::test]
async fn ten_thousand_conversations_are_listed_and_searched() {
    play("many", two_gateways()).await;
}

#[tokio::test]
async fn the_page_is_accessible_and_needs_no_mouse() {
    play("accessible", two_gateways()).await;
}

#[tokio::test]
async fn an_edit_is_seen_by_the_other_user_and_after_a_reload() {
    play("edits", two_gateways()).await;
}

#[tokio::test]
async fn reactions_are_given_by_picker_keyboard_and_chip_and_taken_back() {
    play("reactions", two_gateways()).await;
}

#[tokio::test]
async fn an_answer_leads_to_its_message_however_far_away() {
    play("replies", two_gateways()).await;
}

#[tokio::test]
async fn pinned_messages_are_in_a_bar_that_leads_to_them() {
    play("pins", two_gateways()).await;
}

#[tokio::test]
async fn mentions_are_completed_counted_and_led_to() {
    play("mentions", two_gateways()).await;
}

#[tokio::test]
async fn a_draft_is_the_same_on_all_devices_until_it_is_sent() {
    play("drafts", two_gateways()).await;
}

#[tokio::test]
async fn pinned_muted_archived_and_unread_are_the_same_on_all_devices() {
    play("settings", two_gateways()).await;
}

#[tokio::test]
async fn a_chat_is_cleared_for_one_user_on_all_devices() {
    play("clear", two_gateways()).await;
}

#[tokio::test]
async fn pictures_are_attached_in_all_ways_shown_in_a_gallery_and_recalled() {
    play("pictures", two_gateways()).await;
}

#[tokio::test]
async fn files_are_cards_to_download_and_ten_make_a_message() {
    play("documents", two_gateways()).await;
}

#[tokio::test]
async fn a_forwarded_picture_stays_when_the_first_one_is_recalled() {
    play("forward", two_gateways()).await;
}

#[tokio::test]
async fn an_upload_is_canceled_cut_resumed_and_refused_with_its_text_kept() {
    play("uploads", two_gateways()).await;
}

#[tokio::test]
async fn an_expired_address_of_a_picture_is_replaced() {
    play("expired", two_gateways()).await;
}

#[tokio::test]
async fn avatars_of_users_and_groups_are_shown_everywhere() {
    play("avatars", two_gateways()).await;
}

#[tokio::test]
async fn files_are_accessible_in_both_themes_and_on_a_phone() {
    play("filesAccessible", two_gateways()).await;
}

#[tokio::test]
async fn what_happens_to_a_group_is_told_in_its_timeline() {
    play("system", two_gateways().set("IM__GROUPS__SYSTEM_MESSAGES", true)).await;
}

#[tokio::test]
async fn presence_changes_by_events_and_is_not_polled() {
    play("presence", two_gateways()).await;
}

#[tokio::test]
async fn the_first_message_is_there_soon_and_the_bundle_is_small() {
    play("speed", two_gateways()).await;
}

/// The page asks for messages while it looks at the charts.
#[tokio::test]
async fn the_operator_watches_all_processes_under_load() {
    play_of("test/ops.mjs", "view", two_gateways().workers(2)).await;
}
