//! `imctl` on real stores and a running system: each command, its JSON and its exit code.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::client::{Caller, Client, Http};
use testbed::stack::{Builder, DEMO_SECRET, Stores, System, TemporaryFolder, imctl, program, wait_for};

const TIMEOUT: Duration = Duration::from_secs(30);
const GROUP: &str = "group_1";

/// How a command ended.
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// What it printed with `--json`.
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }

    fn codes(&self) -> Vec<String> {
        let findings = self.json()["findings"].as_array().unwrap().clone();
        let codes: BTreeSet<_> =
            findings.iter().map(|found| found["code"].as_str().unwrap().to_owned()).collect();
        codes.into_iter().collect()
    }
}

/// `imctl` with the settings of one deployment in its environment.
struct Imctl {
    environment: Vec<(String, String)>,
}

impl Imctl {
    fn new(urls: [&str; 3], prefix: &str) -> Self {
        let environment = [
            ("IM__MYSQL__URL", urls[0]),
            ("IM__REDIS__URL", urls[1]),
            ("IM__AMQP__URL", urls[2]),
            ("IM__AMQP__PREFIX", prefix),
            ("IM__AUTH__MODE", "insecure"),
            ("IM__AUTH__HS256_SECRET", DEMO_SECRET),
        ];
        Self { environment: environment.map(|(key, value)| (key.to_owned(), value.to_owned())).into() }
    }

    fn of(system: &System) -> Self {
        let urls = &system.urls;
        Self::new([&urls.mysql, &urls.redis, &urls.amqp], system.amqp_prefix())
    }

    fn of_stores(stores: &Stores) -> Self {
        Self::new([&stores.mysql_url, &stores.redis_url, &stores.amqp_url], &stores.amqp_prefix)
    }

    fn set(mut self, key: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != key);
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = imctl().unwrap();
        command.envs(self.environment.iter().map(|(key, value)| (key, value))).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ended {
            code: output.status.code().unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Runs it with `--json`, which must end with `code`.
    fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let ended = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(ended.code, code, "{arguments:?}: {}{}", ended.stdout, ended.stderr);
        ended.json()
    }
}

/// Runs a statement on the tables of the system.
async fn sql(system: &System, statement: &'static str) {
    let pool = sqlx::MySqlPool::connect(&system.urls.mysql).await.unwrap();
    sqlx::query(statement).execute(&pool).await.unwrap();
    pool.close().await;
}

async fn redis(system: &mut System, arguments: &[&str]) {
    system.redis().unwrap().command(arguments).await.unwrap();
}

/// Publishes a body to the queue of a shard.
async fn publish(system: &System, body: &[u8]) {
    let connection = lapin::Connection::connect(&system.urls.amqp, Default::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let exchange = format!("{}.msg", system.amqp_prefix());
    let properties = lapin::BasicProperties::default().with_delivery_mode(2);
    channel.confirm_select(Default::default()).await.unwrap();
    let published = channel.basic_publish(exchange.into(), "0".into(), Default::default(), body, properties);
    assert!(published.await.unwrap().await.unwrap().is_ack());
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_runs_and_what_is_wrong() {
    let mut system = Builder::new().gateways(1).workers(2).for_test().await.unwrap();
    let imctl = Imctl::of(&system);
    let _alice = Client::connect(&system.ws_urls()[0], "alice").await.unwrap();
    wait_for("a healthy status", TIMEOUT, async || {
        let ended = imctl.run(&["status", "--json"]);
        anyhow::ensure!(ended.code == 0, "{}{}", ended.stdout, ended.stderr);
        let status = ended.json();
        anyhow::ensure!(status["processes"][0]["connections"] == 1, "{status}");
        // Two workers may own a shard for a moment.
        let mut shards = status["shards"].as_array().unwrap().iter();
        anyhow::ensure!(shards.all(|shard| shard["owners"].as_array().unwrap().len() == 1), "{status}");
        Ok(())
    })
    .await
    .unwrap();
    let status = imctl.json(0, &["status"]);
    let roles: Vec<&str> =
        status["processes"].as_array().unwrap().iter().map(|it| it["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["gateway", "worker", "worker"]);
    for process in status["processes"].as_array().unwrap() {
        assert_eq!(process["version"], env!("CARGO_PKG_VERSION"), "{process}");
        assert!(process["started_at_ms"].as_i64().unwrap() > 1_700_000_000_000, "{process}");
        assert_eq!(process["is_ready"], true);
    }
    let shards = status["shards"].as_array().unwrap();
    assert_eq!(shards.len(), 8);
    assert!(shards.iter().all(|shard| shard["ready_bodies"] == 0), "{status}");
    assert_eq!(status["dead_letters"], 0);
    assert!(status["stores"]["mysql"]["version"].as_str().unwrap().starts_with(char::is_numeric), "{status}");
    assert!(status["stores"]["redis"]["version"].is_string(), "{status}");
    let text = imctl.run(&["status"]).stdout;
    assert!(text.contains("nothing is wrong") && text.contains("ready bodies"), "{text}");

    let plan = imctl.json(0, &["shards", "plan", "--workers", "3"]);
    let live: Vec<bool> = plan["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|worker| worker["is_live"].as_bool().unwrap())
        .collect();
    assert_eq!((live, &plan["shards"]), (vec![true, true, false], &8.into()));

    system.worker(0).kill();
    system.worker(1).kill();
    wait_for("the workers to expire", TIMEOUT, async || {
        let ended = imctl.run(&["status", "--json"]);
        anyhow::ensure!(ended.codes() == ["no_consumer", "no_worker"], "{}", ended.stdout);
        anyhow::ensure!(ended.code == 1);
        Ok(())
    })
    .await
    .unwrap();
    // A store that is away: the rest is shown.
    system.gateway(0).kill();
    system.redis().unwrap().kill();
    let status = imctl.json(1, &["status"]);
    assert!(status["unknown"][0].as_str().unwrap().contains("redis.url"), "{status}");
    assert_eq!(status["stores"]["rabbitmq"]["is_reachable"], true);
    let away = imctl.set("IM__AMQP__URL", "amqp://guest:secret@127.0.0.1:1/%2f").run(&["status"]);
    assert_eq!(away.code, 2, "{}{}", away.stdout, away.stderr);
    assert!(!(away.stdout + &away.stderr).contains("secret"));
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_and_stores_are_checked_as_processes_do() {
    let stores = Stores::for_test().await.unwrap();
    let imctl = Imctl::of_stores(&stores);
    let folder = TemporaryFolder::new().unwrap();
    let refused = |imctl: &Imctl, arguments: &[&str], parts: &[&str]| {
        let ended = imctl.run(&[&["config", "check"], arguments].concat());
        assert_eq!(ended.code, 1, "{}{}", ended.stdout, ended.stderr);
        for part in parts {
            assert!(ended.stdout.contains(part), "{part} in {}", ended.stdout);
        }
    };
    let wrong = write(folder.path(), "worker.toml", "[mysql]\nulr = \"x\"\n");
    refused(
        &imctl,
        &["--worker", &wrong, "--offline"],
        &["error: worker", "worker.toml", "did you mean mysql.url?"],
    );
    let wrong = write(folder.path(), "gateway.toml", "[limits]\nbatch_messages_max = 0\n");
    refused(&imctl, &["--gateway", &wrong, "--offline"], &["error: gateway", "limits.batch_messages_max"]);
    let wrong = Imctl::of_stores(&stores).set("IM__COMMIT__HOLE_TIMEOUT_MS", "1");
    refused(&wrong, &["--offline"], &["IM__COMMIT__HOLE_TIMEOUT_MS", "100..=60000"]);
    let wrong = Imctl::of_stores(&stores).set("IM__LOG__FILTER", "a=b=c");
    refused(&wrong, &["--offline"], &["log.filter"]);
    let missing = Imctl::of_stores(&stores).set("IM__AUTH__JWKS_FILE", "/nowhere.json");
    refused(&missing, &["--offline"], &["auth.jwks_file", "/nowhere.json"]);

    let fresh = imctl.json(0, &["config", "check"]);
    let passed = fresh["passed"].to_string();
    assert!(passed.contains("its schema is empty") && passed.contains("makes the queues"), "{passed}");
    // Nothing was made by the check.
    let pending = imctl.json(0, &["migrate", "--dry-run"]);
    let count = pending["pending"].as_array().unwrap().len();
    assert!(count > 20 && pending["applied"] == 0, "{pending}");
    assert!(imctl.run(&["migrate", "--dry-run"]).stdout.contains("CREATE TABLE conversation"));
    assert_eq!(imctl.json(0, &["migrate"])["pending"].as_array().unwrap().len(), count);
    let again = imctl.json(0, &["migrate"]);
    assert_eq!((&again["pending"], again["applied"].as_u64().unwrap()), (&json!([]), count as u64));
    let passed = imctl.json(0, &["config", "check"])["passed"].to_string();
    assert!(passed.contains("its schema is up to date"), "{passed}");

    // What a process logs as a warning.
    let many = Imctl::of_stores(&stores).set("IM__MYSQL__CONNECTIONS_MAX", "100000");
    let report = many.json(0, &["config", "check"]);
    let warnings = report["findings"].as_array().unwrap();
    let is_named = |found: &Value| {
        found["severity"] == "warning"
            && found["message"].as_str().unwrap().contains("max_prepared_stmt_count of MySQL is too low")
    };
    assert!(warnings.iter().any(is_named), "{report}");
    // The processes of one deployment would not find each other.
    let prefix = write(folder.path(), "prefix.toml", "[amqp]\nprefix = \"other\"\n");
    let mut two = Imctl::of_stores(&stores);
    two.environment.retain(|(key, _)| key != "IM__AMQP__PREFIX");
    refused(
        &two,
        &["--worker", &prefix, "--offline"],
        &["amqp.prefix is im for the gateway and other for the worker"],
    );

    stores.redis.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await.unwrap();
    refused(&imctl, &[], &["redis.url", "maxmemory-policy is allkeys-lru"]);
    stores.redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await.unwrap();
    // A queue with arguments of no version.
    let connection = lapin::Connection::connect(&stores.amqp_url, Default::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue: lapin::types::ShortString = format!("{}.msg.0", stores.amqp_prefix).into();
    channel.queue_declare(queue.clone(), Default::default(), Default::default()).await.unwrap();
    refused(&imctl, &[], &["msg.0 has other arguments", "PRECONDITION"]);
    channel.queue_delete(queue, Default::default()).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();

    let away = imctl.set("IM__MYSQL__URL", "mysql://root:secret@127.0.0.1:1/im");
    let ended = away.run(&["config", "check"]);
    assert_eq!(ended.code, 2, "{}{}", ended.stdout, ended.stderr);
    assert!(
        ended.stdout.contains("unknown: ") && ended.stdout.contains("mysql://127.0.0.1:1/im"),
        "{}",
        ended.stdout
    );
    assert!(!(ended.stdout + &ended.stderr).contains("secret"));
    assert_eq!(away.run(&["config", "check", "--offline"]).code, 0);
    // Another command says the same, and how it ends.
    let ended = away.run(&["conversation", "show", GROUP]);
    assert!(ended.code == 2 && ended.stderr.contains("mysql://127.0.0.1:1/im"), "{}", ended.stderr);
}

/// Waits for `count` dead letters, and returns them.
#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_managed_without_a_gateway_as_over_http() {
    let receiver = testbed::client::WebhookReceiver::start().await.unwrap();
    let system = Builder::new().gateways(1).workers(1).webhooks().for_test().await.unwrap();
    let imctl = Imctl::of(&system).set("IM__OUTGOING__ALLOWED_NETWORKS", "127.0.0.0/8");
    assert_eq!(imctl.json(0, &["webhook", "list"])["webhooks"], json!([]));
    let (url, list) = (receiver.url(), "message, group");
    let added = ["webhook", "add", "--name", "index", "--url", &url, "--event-types", list];
    let added = imctl.json(0, &added);
    let (id, secret) = (added["id"].as_str().unwrap(), added["secret"].as_str().unwrap());
    assert_eq!(added["event_types"], json!(["message", "group"]));
    receiver.set_secrets(&[secret]);
    let tested = imctl.json(0, &["webhook", "test", id]);
    assert_eq!((&tested["is_delivered"], receiver.calls()[0].signatures), (&json!(true), 1), "{tested}");

    let changed = imctl.json(0, &["webhook", "set", id, "--event-types", "", "--conversations", "group"]);
    assert_eq!((&changed["event_types"], &changed["conversations"]), (&json!([]), &json!(["group"])));
    assert_eq!(imctl.json(0, &["webhook", "pause", id])["state"], "paused");
    assert_eq!(imctl.json(0, &["webhook", "resume", id])["state"], "delivering");
    let replayed = imctl.json(0, &["webhook", "replay", id, "--oldest"]);
    assert_eq!(replayed["shards"][0]["cursor"], "0");
    let rotated = imctl.json(0, &["webhook", "rotate", id, "--keep-old-s", "60"]);
    assert_ne!(rotated["secret"], added["secret"]);
    let over_http = testbed::client::Http::of_operator(&system.http_urls()[0], system.operator_key())
        .ok("GET", &format!("/api/admin/webhooks/{id}"), None)
        .await
        .unwrap();
    let shown = imctl.json(0, &["webhook", "show", id]);
    for field in ["name", "url", "conversations", "updated_at", "old_secret_until"] {
        assert_eq!(shown[field], over_http[field], "{field}");
    }
    let text = imctl.run(&["webhook", "list"]).stdout;
    assert!(text.contains(id) && text.contains("delivering"), "{text}");
    assert!(imctl.run(&["webhook", "show", id]).stdout.contains("next attempt"));

    for (arguments, part) in [
        (&["webhook", "show", "0123456789abcdef"][..], "there is no webhook"),
        (&["webhook", "set", id], "nothing to change"),
        (&["webhook", "set", id, "--url", "https://10.0.0.1/"], "outgoing.allowed_networks"),
        (&["webhook", "set", id, "--event-types", "messages"], "event_types: "),
        (&["webhook", "replay", id, "--shard", "0", "--cursor", "999"], "cursor: must be"),
        (&["webhook", "remove", id], "--yes"),
    ] {
        let ended = imctl.run(arguments);
        assert!(ended.code == 2 && ended.stderr.contains(part), "{arguments:?}: {}", ended.stderr);
    }
    assert_eq!(imctl.json(0, &["webhook", "remove", id, "--yes"])["id"], id);
    assert_eq!(imctl.json(0, &["webhook", "list"])["webhooks"], json!([]));
}

async fn letters(imctl: &Imctl, count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    wait_for("dead letters", TIMEOUT, async || {
        found = imctl.json(0, &["dead-letters", "list"])["dead_letters"].as_array().unwrap().clone();
        anyhow::ensure!(found.len() == count, "{found:?}");
        Ok(())
    })
    .await
    .unwrap();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_shown_retried_and_dropped_and_none_is_lost_by_a_kill() {
    let mut system = Builder::new().gateways(1).workers(1).for_test().await.unwrap();
    let imctl = Imctl::of(&system);
    letters(&imctl, 0).await;
    publish(&system, b"no protobuf \x1b[31mat all").await;
    let found = letters(&imctl, 1).await;
    let id = found[0]["id"].as_str().unwrap();
    assert!(found[0]["reason"].as_str().unwrap().contains("not decodable"), "{found:?}");
    assert!(found[0]["time_ms"].as_i64().unwrap() > 1_700_000_000_000, "{found:?}");
    let shown = imctl.run(&["dead-letters", "show", id]).stdout;
    assert!(shown.contains("begins with no protobuf") && !shown.contains('\x1b'), "{shown}");
    // Nobody confirms.
    for action in ["retry", "drop"] {
        let ended = imctl.run(&["dead-letters", action, id]);
        assert!(ended.code == 2 && ended.stderr.contains("--yes"), "{}", ended.stderr);
    }
    letters(&imctl, 1).await;
    let unknown = imctl.run(&["dead-letters", "drop", "0000000000000000", "--yes"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("there is no dead letter"), "{}", unknown.stderr);
    // A retry does not repair it: it becomes a dead letter again.
    let done = imctl.json(0, &["dead-letters", "retry", id, "--yes"]);
    assert_eq!((&done["action"], &done["left"]), (&"retried".into(), &0.into()));
    let found = letters(&imctl, 1).await;
    imctl.json(0, &["dead-letters", "drop", found[0]["id"].as_str().unwrap(), "--yes"]);
    letters(&imctl, 0).await;

    // Told apart by their lengths.
    let lengths: BTreeSet<u64> = (100..120).collect();
    for length in &lengths {
        publish(&system, &vec![0xff; usize::try_from(*length).unwrap()]).await;
    }
    letters(&imctl, lengths.len()).await;
    // Without a worker, so that a retry only moves bodies.
    system.worker(0).kill();
    let mut retry = imctl.command(&["dead-letters", "retry", "--all", "--yes"]);
    let mut retry = retry.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(retry.stderr.take().unwrap()).lines();
    for _ in 0..5 {
        assert!(lines.next().unwrap().unwrap().starts_with("retried "));
    }
    retry.kill().unwrap();
    retry.wait().unwrap();
    system.worker(0).start_again().await.unwrap();
    wait_for("all dead letters", TIMEOUT, async || {
        let list = imctl.json(0, &["dead-letters", "list"]);
        let found = list["dead_letters"].as_array().unwrap();
        let found: BTreeSet<u64> = found.iter().map(|letter| letter["bytes"].as_u64().unwrap()).collect();
        anyhow::ensure!(found == lengths, "{found:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_shown_disconnected_and_given_a_token() {
    let system = Builder::new().gateways(2).workers(1).for_test().await.unwrap();
    let imctl = Imctl::of(&system);
    assert!(!imctl.json(1, &["user", "show", "nobody"])["is_known"].as_bool().unwrap());
    let urls = system.ws_urls();
    let mut clients = Vec::new();
    for (gateway, device) in [(0, "phone"), (1, "laptop")] {
        let url = format!("{}?user_id=alice&device_id={device}", urls[gateway]);
        clients.push(Client::open(&url).await.unwrap());
    }
    clients[0].say("private_alice_bob", "m1", "hello").await.unwrap();
    clients[0].say(GROUP, "m1", "hello").await.unwrap();
    let alice = Http::of_user(&system.http_urls()[0], "alice");
    alice.ok("POST", "/api/blocks", Some(json!({"user_id": "mallory"}))).await.unwrap();
    wait_for("the user on both gateways", TIMEOUT, async || {
        let shown = imctl.json(0, &["user", "show", "alice"]);
        anyhow::ensure!(shown["gateways"].as_array().unwrap().len() == 2, "{shown}");
        anyhow::ensure!(shown["private_chats"] == 2 && shown["groups"] == 1, "{shown}");
        let devices: Vec<_> =
            shown["devices"].as_array().unwrap().iter().map(|it| it["device_id"].clone()).collect();
        anyhow::ensure!(devices == ["laptop", "phone"] && shown["is_devices_complete"] == true, "{shown}");
        anyhow::ensure!(shown["blocked"][0] == "mallory" && shown["revoked_before_ms"].is_null(), "{shown}");
        Ok(())
    })
    .await
    .unwrap();

    let before = imctl.run(&["user", "token", "alice", "--ttl-s", "600"]);
    let token = before.stdout.trim().to_owned();
    let as_alice = |token: String| Http::new(&system.http_urls()[1], Caller::Token(token));
    as_alice(token.clone()).ok("GET", "/api/users/me", None).await.unwrap();
    let refused = imctl.run(&["user", "token", "alice", "--ttl-s", "0"]);
    assert!(refused.code == 2 && refused.stderr.contains("ttl_s"), "{}", refused.stderr);

    assert_eq!(imctl.run(&["user", "disconnect", "alice"]).code, 2);
    let done = imctl.json(0, &["user", "disconnect", "alice", "--yes"]);
    assert!(done["not_announced"].is_null(), "{done}");
    for client in &mut clients {
        assert_eq!(client.until_closed().await.unwrap().0.unwrap().0, 4402);
    }
    assert_eq!(as_alice(token).call("GET", "/api/users/me", None).await.unwrap().0, 401);
    let shown = imctl.json(0, &["user", "show", "alice"]);
    assert_eq!(shown["revoked_before_ms"], done["revoked_before_ms"]);
    let after = imctl.json(0, &["user", "token", "alice"])["token"].as_str().unwrap().to_owned();
    as_alice(after).ok("GET", "/api/users/me", None).await.unwrap();
}

/// Conversations with some messages, each stored and in the inboxes of alice and bob.
async fn with_messages(system: &System) {
    let url = &system.ws_urls()[0];
    let (mut alice, mut bob) =
        (Client::connect(url, "alice").await.unwrap(), Client::connect(url, "bob").await.unwrap());
    for client in [&mut alice, &mut bob] {
        assert_eq!(client.pull(GROUP, 0, 1).await.unwrap().code, 0);
        client.sync_all(0).await.unwrap();
    }
    for n in 1..=5 {
        alice.say(GROUP, &format!("m{n}"), "hello").await.unwrap();
        alice.say("private_alice_bob", &format!("m{n}"), "hello").await.unwrap();
    }
    wait_for("the messages", TIMEOUT, async || {
        for conversation in [GROUP, "private_alice_bob"] {
            anyhow::ensure!(bob.pull_all(conversation, 0).await?.len() == 5);
        }
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_shown_and_each_kind_of_damage_is_found() {
    let mut system = Builder::new().gateways(1).workers(1).for_test().await.unwrap();
    let imctl = Imctl::of(&system);
    with_messages(&system).await;
    let shown = imctl.json(0, &["conversation", "show", GROUP, "--messages", "2"]);
    assert_eq!(
        (&shown["kind"], &shown["last_seq"], &shown["counter"]),
        (&"group".into(), &5.into(), &5.into())
    );
    assert_eq!((&shown["group"]["members"], shown["newest"].as_array().unwrap().len()), (&2.into(), 2));
    assert_eq!((&shown["newest"][0]["seq"], &shown["newest"][0]["msg_id"]), (&5.into(), &"m5".into()));
    let shown = imctl.json(0, &["conversation", "show", "private_alice_bob"]);
    assert_eq!(shown["users"], json!(["alice", "bob"]));
    assert!(!imctl.json(1, &["conversation", "show", "group_2"])["exists"].as_bool().unwrap());
    let ambiguous = imctl.run(&["conversation", "show", "private_a_b_c"]);
    assert!(ambiguous.code == 2 && ambiguous.stderr.contains("'private_a_b c'"), "{}", ambiguous.stderr);

    let verify = |arguments: &[&str]| {
        let ended = imctl.run(&[&["conversation", "verify", "--json"], arguments].concat());
        let codes = ended.codes();
        assert_eq!(ended.code, i32::from(!codes.is_empty()), "{}", ended.stderr);
        (codes, ended.json())
    };
    let (codes, report) = verify(&["--all"]);
    assert_eq!(codes, [""; 0], "{report}");
    assert_eq!(
        (&report["messages"], &report["gaps_total"], &report["inboxes"]),
        (&10.into(), &0.into(), &2.into())
    );
    assert_eq!(imctl.run(&["conversation", "verify", "group_2"]).code, 2);

    // A gap is named and no fault.
    sql(&system, "DELETE FROM timeline_message WHERE conversation_id = 'group_1' AND seq IN (2, 3)").await;
    let (codes, report) = verify(&[GROUP]);
    assert_eq!(
        (codes.len(), &report["gaps"][0]["first"], &report["gaps"][0]["last"]),
        (0, &2.into(), &3.into())
    );
    redis(&mut system, &["DEL", "im:seq:{group_1}"]).await;
    let (codes, report) = verify(&[GROUP]);
    assert_eq!((codes.len(), &report["counters_missing"]), (0, &1.into()));

    redis(&mut system, &["SET", "im:seq:{group_1}", "4"]).await;
    assert_eq!(verify(&[GROUP]).0, ["counter_below_head"]);
    redis(&mut system, &["SET", "im:seq:{group_1}", "4x"]).await;
    assert_eq!(verify(&[GROUP]).0, ["counter_unusable"]);
    redis(&mut system, &["SET", "im:seq:{group_1}", "5"]).await;
    for (damage, repair, found) in [
        (
            "UPDATE conversation SET last_seq = 4 WHERE conversation_id = 'group_1'",
            "UPDATE conversation SET last_seq = 5 WHERE conversation_id = 'group_1'",
            &["inbox_above_head", "message_above_head"][..],
        ),
        (
            "UPDATE timeline_message SET seq = 2 WHERE conversation_id = 'group_1' AND seq = 5",
            "UPDATE timeline_message SET seq = 5 WHERE conversation_id = 'group_1' AND seq = 2",
            &["messages_missing"],
        ),
        (
            "INSERT INTO user_conversation_state (user_id, conversation_id, last_ack_seq, updated_at) VALUES ('bob', 'group_1', 6, 0)",
            "DELETE FROM user_conversation_state WHERE user_id = 'bob'",
            &["position_above_head"],
        ),
        (
            "UPDATE chat_group SET members = 3 WHERE group_id = 'group_1'",
            "UPDATE chat_group SET members = 2 WHERE group_id = 'group_1'",
            &["member_count"],
        ),
        (
            "UPDATE group_member SET role = 2 WHERE group_id = 'group_1'",
            "UPDATE group_member SET role = 0 WHERE group_id = 'group_1'",
            &["several_owners"],
        ),
        (
            "UPDATE conversation SET kind = 1 WHERE conversation_id = 'group_1'",
            "UPDATE conversation SET kind = 2 WHERE conversation_id = 'group_1'",
            &["wrong_kind"],
        ),
        (
            "UPDATE chat_group SET group_id = 'group_3' WHERE group_id = 'group_1'",
            "UPDATE chat_group SET group_id = 'group_1' WHERE group_id = 'group_3'",
            &["no_group"],
        ),
    ] {
        sql(&system, damage).await;
        assert_eq!(verify(&[GROUP]).0, found, "{damage}");
        assert_eq!(verify(&["--all"]).0, found, "{damage}");
        sql(&system, repair).await;
        assert_eq!(verify(&["--all"]).0, [""; 0], "{repair}");
    }
    sql(&system, "DELETE FROM private_chat WHERE user_id = 'bob'").await;
    let (codes, report) = verify(&["private_alice bob"]);
    assert!(
        codes == ["not_listed"] && report["findings"][0]["message"].as_str().unwrap().contains("bob"),
        "{report}"
    );
    // Messages of a conversation without a row, and an entry of an inbox that no table knows.
    sql(&system, "DELETE FROM conversation WHERE kind = 1").await;
    assert_eq!(verify(&["private_alice_bob"]).0, ["no_conversation"]);
    assert_eq!(verify(&["--all"]).0, ["inbox_without_conversation", "no_conversation"]);
    sql(&system, "DELETE FROM timeline_message WHERE conversation_id LIKE 'private%'").await;
    redis(&mut system, &["DEL", "im:heads:{alice}", "im:heads:{bob}"]).await;
    sql(&system, "INSERT INTO conversation VALUES ('room 1', 2, 0, 0, 0)").await;
    assert_eq!(verify(&["--all"]).0, ["invalid_key"]);
    sql(&system, "DELETE FROM conversation WHERE conversation_id = 'room 1'").await;
    sql(&system, "ALTER TABLE timeline_message DROP INDEX one_per_id").await;
    sql(&system, "UPDATE timeline_message SET msg_id = 'm1' WHERE conversation_id = 'group_1'").await;
    let (codes, report) = verify(&[GROUP]);
    assert_eq!(codes, ["duplicate_id", "no_unique_key"], "{report}");
    assert!(imctl.run(&["conversation", "verify", GROUP]).stdout.contains("stored 3 times"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_sent_while_the_worker_is_killed_is_traced() {
    let mut system = Builder::new().gateways(1).workers(1).for_test().await.unwrap();
    let imctl = Imctl::of(&system);
    let url = system.ws_urls()[0].clone();
    let (mut alice, mut bob) =
        (Client::connect(&url, "alice").await.unwrap(), Client::connect(&url, "bob").await.unwrap());
    for client in [&mut alice, &mut bob] {
        assert_eq!(client.pull(GROUP, 0, 1).await.unwrap().code, 0);
        client.sync_all(0).await.unwrap();
    }
    alice.say(GROUP, "m1", "hello").await.unwrap();
    let traced = |code: i32, msg_id: &str, more: &[&str]| {
        imctl.json(code, &[&["trace", msg_id], more].concat())["messages"][0].clone()
    };
    wait_for("the first message", TIMEOUT, async || {
        anyhow::ensure!(traced(0, "m1", &[])["state"] == "stored");
        Ok(())
    })
    .await
    .unwrap();

    system.worker(0).kill();
    alice.say(GROUP, "m2", "hello").await.unwrap();
    wait_for("the broker to notice", TIMEOUT, async || {
        let message = traced(0, "m2", &["--conversation", GROUP]);
        anyhow::ensure!(message["queue"]["consumers"] == 0, "{message}");
        // That of the first message too, if its acknowledgement was lost.
        anyhow::ensure!(message["queue"]["ready_bodies"].as_u64() >= Some(1), "{message}");
        Ok(())
    })
    .await
    .unwrap();
    let message = traced(0, "m2", &[]);
    assert_eq!((&message["state"], &message["numbered"]["seq"]), (&"pending".into(), &2.into()), "{message}");
    assert_eq!((&message["sender"], &message["conversation"]), (&"alice".into(), &GROUP.into()));
    assert!(message["numbered"]["fingerprint"].is_string() && message["stored"].is_null(), "{message}");
    assert!(message["conclusion"].as_str().unwrap().contains("start a worker"), "{message}");
    let text = imctl.run(&["trace", "m2"]).stdout;
    assert!(text.contains("not known:") && text.contains("start a worker"), "{text}");

    system.worker(0).start_again().await.unwrap();
    wait_for("the commit", TIMEOUT, async || {
        let message = traced(0, "m2", &["--conversation", GROUP, "--sender", "alice"]);
        anyhow::ensure!(message["state"] == "stored" && message["is_announced"] == true, "{message}");
        Ok(())
    })
    .await
    .unwrap();
    bob.request(4, format!(r#"{{"cmd":4,"conversation_id":"{GROUP}","cursor_seq":2}}"#)).await.unwrap();
    let message = traced(0, "m2", &[]);
    assert_eq!(
        (&message["stored"]["seq"], &message["is_renumbered"]),
        (&2.into(), &false.into()),
        "{message}"
    );
    assert_eq!(message["read_by"], json!([{"user_id": "bob", "position": 2}]));
    assert!(message["stored"]["stored_at_ms"].as_i64().unwrap() > 1_700_000_000_000, "{message}");

    // Redis has forgotten: the id is found in MySQL.
    redis(&mut system, &["FLUSHALL"]).await;
    let found = imctl.json(0, &["trace", "m2"]);
    assert_eq!(found["searched"], "Redis and MySQL");
    let message = &found["messages"][0];
    assert_eq!(
        (&message["state"], &message["numbered"], &message["is_renumbered"]),
        (&"stored".into(), &Value::Null, &Value::Null)
    );
    let unknown = imctl.run(&["trace", "m3"]);
    assert!(unknown.code == 1 && unknown.stdout.contains("never reached a gateway"), "{}", unknown.stdout);
    // A number that has passed without a message.
    redis(&mut system, &["SET", "im:sent:{group_1}:3:bob:m4", "1.0001000000", "EX", "900"]).await;
    assert_eq!(traced(1, "m4", &[])["state"], "not_stored");
}

#[test]
fn completions_and_man_pages_are_generated() {
    let imctl = Imctl { environment: Vec::new() };
    for shell in ["bash", "zsh", "fish"] {
        let ended = imctl.run(&["completions", shell]);
        assert!(ended.code == 0 && ended.stdout.contains("dead-letters"), "{shell}");
    }
    let folder = TemporaryFolder::new().unwrap();
    let path = folder.path().to_str().unwrap();
    assert_eq!(imctl.run(&["man", path]).code, 0);
    let page = std::fs::read_to_string(folder.path().join("imctl-conversation-verify.1")).unwrap();
    assert!(page.contains("imctl conversation verify \\-\\-all"), "{page}");
    assert_eq!(imctl.run(&["man", "/nowhere/at/all"]).code, 2);
    for arguments in [
        &["trace"][..],
        &["dead-letters", "drop"],
        &["shards", "plan", "--workers", "0"],
        &["conversation", "verify"],
    ] {
        assert_eq!(imctl.run(arguments).code, 2, "{arguments:?}");
    }
}

#[test]
fn the_version_names_the_commit_as_the_processes_do() {
    let version = |name: &str| {
        let ended = Command::new(program(name).unwrap()).arg("--version").output().unwrap();
        assert!(ended.status.success());
        String::from_utf8(ended.stdout).unwrap().trim().strip_prefix(name).unwrap().to_owned()
    };
    let imctl = version("imctl");
    assert!(imctl.contains("(commit "), "{imctl}");
    assert_eq!(imctl, version("gateway"));
}
