//! The operator's view of all processes: who is listed, with which metrics, and who may see it.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::time::Duration;

use serde_json::Value;
use testbed::client::{Chat, Client, Http};
use testbed::stack::{Builder, System, program, wait_for};

const PATH: &str = "/api/admin/processes";
const TIMEOUT: Duration = Duration::from_secs(30);
/// Both kinds of processes leave the liveness registry within this time.
const EXPIRY: Duration = Duration::from_secs(10);

/// The processes as a gateway lists them.
async fn listed(system: &System, gateway: usize) -> anyhow::Result<Vec<Value>> {
    let operator = Http::of_operator(&system.http_urls()[gateway], system.operator_key());
    let report = operator.ok("GET", PATH, None).await?;
    anyhow::ensure!(report["stale"].is_null(), "{report}");
    Ok(report["processes"].as_array().unwrap().clone())
}

/// Waits until all of `roles` are listed, each with its metrics.
async fn all_listed(system: &System, gateway: usize, roles: &[&str]) -> Vec<Value> {
    let mut found = Vec::new();
    wait_for("the processes", TIMEOUT, async || {
        found = listed(system, gateway).await?;
        let listed: Vec<_> = found.iter().filter(|it| it["metrics"].is_string()).collect();
        let listed: Vec<_> = listed.iter().map(|it| it["role"].as_str().unwrap()).collect();
        anyhow::ensure!(listed == roles, "{:?}", without_metrics(&found));
        Ok(())
    })
    .await
    .unwrap();
    found
}

fn without_metrics(processes: &[Value]) -> Vec<Value> {
    let mut processes = processes.to_vec();
    processes.iter_mut().for_each(|it| it["metrics"] = it["metrics"].is_string().into());
    processes
}

/// The sum of a metric over all lines of a process that begin with `name`.
fn metric(process: &Value, name: &str) -> f64 {
    let lines = process["metrics"].as_str().unwrap_or_default().lines();
    let value = |line: &str| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
        rest.rsplit_once(' ')?.1.parse::<f64>().ok()
    };
    lines.filter_map(value).sum()
}

fn sum(processes: &[Value], name: &str) -> f64 {
    processes.iter().map(|process| metric(process, name)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sees_all_live_processes_with_their_metrics_at_any_gateway() {
    let builder = Builder::new().gateways(2).workers(2).set("IM__SHARDS__COUNT", 8);
    let mut system = builder.for_test().await.unwrap();
    let urls = system.ws_urls();
    let mut bob = Client::connect(&urls[0], "bob").await.unwrap();
    let mut alice = Client::connect(&urls[0], "alice").await.unwrap();
    alice.say("private_alice_bob", "m1", "hello").await.unwrap();
    bob.wait_for(|packet| packet.cmd == 5).await.unwrap();

    let four = ["gateway", "gateway", "worker", "worker"];
    for gateway in 0..2 {
        let processes = all_listed(&system, gateway, &four).await;
        for process in &processes {
            let id = process["id"].as_str().unwrap();
            assert!(process["metrics"].as_str().unwrap().contains(&format!("id=\"{id}\"")), "{process}");
            assert_eq!(metric(process, "im_process_info"), 1.0);
            assert!(metric(process, "im_process_start_time_seconds") > 1.7e9);
        }
        assert_eq!(sum(&processes, "im_process_ready"), 4.0);
    }
    // What the view shows. The gauges are set within a second, and a report is as old at most.
    wait_for("the figures", TIMEOUT, async || {
        let processes = listed(&system, 0).await?;
        let text = processes.iter().map(|it| it["metrics"].as_str().unwrap_or_default()).collect::<String>();
        for (name, value) in [
            ("im_gateway_messages_accepted_total", 1.0),
            ("im_worker_messages_committed_total", 1.0),
            ("im_gateway_ack_seconds_count", 1.0),
            ("im_push_seconds_count", 1.0),
            ("im_gateway_connections", 2.0),
            ("im_worker_shard_owner", 8.0),
            ("im_worker_queue_unacked_bodies", 0.0),
            ("im_dead_letters", 0.0),
            ("im_gateway_logins_total", 2.0),
            ("im_process_check_failing", 0.0),
            ("im_shards", 32.0),
            ("im_worker_oldest_body_timestamp_seconds", 0.0),
        ] {
            anyhow::ensure!(sum(&processes, name) == value, "{name} is {}", sum(&processes, name));
            anyhow::ensure!(text.contains(name), "{name} is missing");
        }
        for shard in 0..8 {
            let line = format!("im_worker_queue_ready_bodies{{shard=\"{shard}\"}}");
            anyhow::ensure!(text.contains(&line), "no {line}");
        }
        Ok(())
    })
    .await
    .unwrap();

    system.gateway(1).kill();
    system.worker(1).kill();
    wait_for("the killed processes to leave", EXPIRY, async || {
        let processes = listed(&system, 0).await?;
        anyhow::ensure!(processes.len() == 2, "{:?}", without_metrics(&processes));
        Ok(())
    })
    .await
    .unwrap();
    // A process that stops in order leaves at once.
    system.worker(0).terminate().await.unwrap();
    wait_for("the worker to leave", Duration::from_secs(3), async || {
        anyhow::ensure!(listed(&system, 0).await?.len() == 1);
        Ok(())
    })
    .await
    .unwrap();
}

async fn fetched(url: String) -> (u16, String) {
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn details_and_metrics_are_on_the_operators_listener_only() {
    let mut system = Builder::new().gateways(1).workers(1).for_test().await.unwrap();
    let (public, ops) = (system.http_urls().remove(0), system.ops_urls().remove(0));
    let of = async |base: &str, path: &str| fetched(format!("{base}{path}")).await;
    assert_eq!(of(&public, "/metrics").await.0, 404);
    assert!(of(&ops, "/metrics").await.1.contains("im_process_ready 1"));
    for base in [&public, &ops] {
        assert_eq!(of(base, "/healthz").await, (200, "ok\n".to_owned()));
        assert_eq!(of(base, "/readyz").await, (200, "ready\n".to_owned()));
    }
    assert_eq!(of(&ops, "/api").await.0, 404, "clients are not served there");

    system.redis().unwrap().kill();
    wait_for("the reason", TIMEOUT, async || {
        let (status, text) = of(&ops, "/readyz").await;
        anyhow::ensure!(status == 503 && text.contains("redis"), "{status} {text}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(of(&public, "/readyz").await, (503, "not ready\n".to_owned()));
    assert_eq!(of(&public, "/healthz").await.0, 200, "an unavailable store is no reason to restart");
}

/// Runs `process` with these arguments and the listener at `ops`. Returns its exit code and its output.
async fn run(process: &str, ops: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::new(program(process).unwrap());
    let settings = [("IM__AUTH__MODE", "insecure"), ("IM__OPS__ADDRESS", ops)];
    let ended = command.env_clear().envs(settings).args(arguments).output();
    let ended = tokio::time::timeout(TIMEOUT, ended).await.unwrap().unwrap();
    (ended.status.code(), String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_checks_the_health_of_its_process_and_names_its_build() {
    let mut system = Builder::new().gateways(1).workers(1).for_test().await.unwrap();
    let urls = [system.gateway(0).ops_url(), system.worker(0).ops_url()];
    let processes = ["gateway", "worker"].into_iter().zip(urls);
    let processes: Vec<_> =
        processes.map(|(name, url)| (name, url.trim_start_matches("http://").to_owned(), url)).collect();
    for (name, ops, url) in &processes {
        assert_eq!(run(name, ops, &["health"]).await, (Some(0), format!("{name}: ready\n")));
        let (code, version) = run(name, ops, &["--version"]).await;
        assert!(code == Some(0) && version.starts_with(&format!("{name} 0.")), "{version}");
        let commit = version.trim_end().trim_end_matches(')').rsplit(' ').next().unwrap();
        let metrics = fetched(format!("{url}/metrics")).await.1;
        let info = metrics.lines().find(|line| line.starts_with("im_build_info{")).unwrap();
        assert!(info.contains(&format!("commit=\"{commit}\"")) && info.ends_with(" 1"), "{info}");
    }
    system.redis().unwrap().kill();
    for (name, ops, _) in &processes {
        wait_for("the failed check", TIMEOUT, async || {
            let (code, line) = run(name, ops, &["health"]).await;
            anyhow::ensure!(code == Some(1) && line.contains("redis"), "{code:?} {line}");
            anyhow::ensure!(line.lines().count() == 1, "{line}");
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(run(name, ops, &["health", "--live"]).await.0, Some(0), "it lives without Redis");
    }
    system.services().for_each(testbed::stack::Service::kill);
    for (name, ops, _) in &processes {
        let (code, line) = run(name, ops, &["health", "--live"]).await;
        assert!(code == Some(1) && line.contains("cannot connect"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_a_used_operators_port_ends_with_a_line_that_says_what_to_set() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for process in ["gateway", "worker"] {
        let (code, error) = run(process, &address, &[]).await;
        assert_eq!(code, Some(1), "{error}");
        assert!(error.contains(&address) && error.contains("IM__OPS__ADDRESS"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_applies_the_log_filter_and_says_what_needs_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("im.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("[log]\nfilter = \"info\"\n");
    let mut system = Builder::new().gateways(1).workers(1).for_test().await.unwrap();
    for service in system.services() {
        service.terminate().await.unwrap();
        service.set("IM_CONFIG", file.to_str().unwrap());
        service.start_again().await.unwrap();
    }
    let processes: Vec<_> = system
        .services()
        .map(|service| (service.process().unwrap().id(), service.log().to_owned()))
        .collect();
    for (text, line) in [
        (
            "[log]\nfilter = \"info,shared=debug\"\n",
            "log.filter changes from \\\"info\\\" to \\\"info,shared=debug\\\"",
        ),
        ("[log]\nfilter = \"info\"\n[start]\nwait_s = 7\n", "need a restart: start.wait_s"),
        ("[log]\nfilter = \"a=b=c\"\n", "log.filter"),
        ("[log]\nfitler = \"info\"\n", "nothing changes"),
    ] {
        write(text);
        let line = line.replace("\\\"", "\"");
        for (id, log) in &processes {
            let before = std::fs::read_to_string(log).unwrap().len();
            let process = nix::unistd::Pid::from_raw(i32::try_from(*id).unwrap());
            nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGHUP).unwrap();
            wait_for(&line, TIMEOUT, async || {
                let log = std::fs::read_to_string(log)?;
                anyhow::ensure!(log[before..].contains(&line), "{}", &log[before..]);
                Ok(())
            })
            .await
            .unwrap();
        }
    }
    for service in system.services() {
        service.ready(TIMEOUT).await.unwrap();
    }
}

/// Writes the configuration, sends SIGHUP to all processes, and waits for the line of each log.
async fn reload(system: &mut System, file: &std::path::Path, text: &str, lines: [&str; 2]) {
    std::fs::write(file, text).unwrap();
    let processes: Vec<_> = system
        .services()
        .map(|service| (service.process().unwrap().id(), service.log().to_owned()))
        .collect();
    for ((id, log), line) in processes.iter().zip(lines) {
        let before = std::fs::read_to_string(log).unwrap().len();
        let process = nix::unistd::Pid::from_raw(i32::try_from(*id).unwrap());
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGHUP).unwrap();
        wait_for(line, TIMEOUT, async || {
            let log = std::fs::read_to_string(log)?;
            anyhow::ensure!(log[before..].contains(line), "{}", &log[before..]);
            Ok(())
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_changes_limits_for_clients_who_are_connected() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("im.toml");
    std::fs::write(&file, "[limits]\nuser_messages_per_second = 0\nhttp_body_bytes_max = 60000\n").unwrap();
    let mut system = Builder::new().gateways(1).workers(1).for_test().await.unwrap();
    for service in system.services() {
        service.terminate().await.unwrap();
        service.set("IM_CONFIG", file.to_str().unwrap());
        service.start_again().await.unwrap();
    }
    let mut alice = Client::connect(&system.ws_urls()[0], "alice").await.unwrap();
    let mut n = 0;
    // The code of each of some messages in a row, without waiting for answers in between.
    let mut codes = async |alice: &mut Client, count: usize| {
        let mut codes = Vec::new();
        for _ in 0..count {
            n += 1;
            let chat = Chat {
                conversation: "private_alice_bob".to_owned(),
                msg_id: format!("m{n}"),
                content: "hello".to_owned(),
                stored: false,
            };
            codes.push(alice.chat(&chat).await.unwrap().code);
        }
        codes
    };
    assert_eq!(codes(&mut alice, 5).await, [0; 5]);
    let alices = Http::of_user(&system.http_urls()[0], "alice");
    let long = serde_json::json!({"user_id": "x".repeat(10_000)});
    assert_ne!(alices.call("POST", "/api/blocks", Some(&long)).await.unwrap().0, 413);

    let limits =
        "[limits]\nuser_messages_per_second = 1\nuser_messages_burst = 2\nhttp_body_bytes_max = 1000\n";
    let lines = [
        "limits.http_body_bytes_max changes from 60000 to 1000; limits.user_messages_burst changes from 200 to 2; \
         limits.user_messages_per_second changes from 0 to 1",
        "commit.batch_messages_max changes from 1000 to 500",
    ];
    reload(&mut system, &file, &format!("{limits}[commit]\nbatch_messages_max = 500\n"), lines).await;
    // On the connection that was open before.
    let limited = codes(&mut alice, 10).await;
    assert!(limited.starts_with(&[0, 0]) && limited.contains(&429), "{limited:?}");
    assert_eq!(alices.call("POST", "/api/blocks", Some(&long)).await.unwrap().0, 413);

    // A configuration that cannot be used, and a key that cannot change.
    let broken = format!("{limits}batch_messages_max = 0\n[commit]\ntransactions_at_once = 0\n");
    let lines = ["limits.batch_messages_max: 0 is not in", "commit.transactions_at_once: is not in"];
    reload(&mut system, &file, &broken, lines).await;
    assert!(codes(&mut alice, 10).await.contains(&429), "the limits of before apply");
    let started = "[limits]\nuser_messages_per_second = 0\nrequest_deadline_ms = 4000\n[commit]\nprefetch_bodies = 100\n";
    let lines = [
        "these changes need a restart: limits.request_deadline_ms",
        "commit.batch_messages_max changes from 500 to 1000; these changes need a restart: commit.prefetch_bodies",
    ];
    reload(&mut system, &file, started, lines).await;
    assert_eq!(codes(&mut alice, 5).await, [0; 5]);
    let same = ["The configuration was read again: nothing changes; these changes need a restart"; 2];
    reload(&mut system, &file, started, same).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_operator_sees_a_process() {
    let system = Builder::new().gateways(1).workers(1).for_test().await.unwrap();
    let base = &system.http_urls()[0];
    all_listed(&system, 0, &["gateway", "worker"]).await;
    for (caller, status) in [
        (Http::of_nobody(base), 401),
        (Http::of_operator(base, "not the key, but as long as a key"), 401),
        (Http::of_user(base, "alice"), 403),
    ] {
        let (code, answer) = caller.call("GET", PATH, None).await.unwrap();
        assert_eq!(code, status, "{answer}");
        assert!(!answer.to_string().contains("im_process"), "{answer}");
    }
    let operator = Http::of_operator(base, system.operator_key());
    assert_eq!(operator.call("POST", PATH, None).await.unwrap().0, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_metrics_is_listed_with_the_reason() {
    let mut system = Builder::new().gateways(2).workers(1).for_test().await.unwrap();
    all_listed(&system, 0, &["gateway", "gateway", "worker"]).await;

    // It does not answer, and is alive until it expires.
    system.worker(0).freeze();
    error_listed(&system, "worker", "no answer within 1 s").await;
    system.worker(0).thaw();
    all_listed(&system, 0, &["gateway", "gateway", "worker"]).await;

    let port = |url: &str| url.rsplit(':').next().unwrap().to_owned();
    let [other, own] = [0, 1].map(|n| port(&system.ops_urls()[n]));
    for (advertised, error) in
        [(format!("127.0.0.1:{other}"), "set ops.address"), ("127.0.0.1:1".to_owned(), "cannot connect")]
    {
        system.gateway(1).terminate().await.unwrap();
        system.gateway(1).set("IM__OPS__ADVERTISE", &advertised);
        system.gateway(1).start_again().await.unwrap();
        error_listed(&system, "gateway", error).await;
    }
    // A host without a port has the port of the socket.
    system.gateway(1).terminate().await.unwrap();
    system.gateway(1).set("IM__OPS__ADVERTISE", "localhost");
    system.gateway(1).start_again().await.unwrap();
    let processes = all_listed(&system, 0, &["gateway", "gateway", "worker"]).await;
    let address = format!("localhost:{own}");
    assert!(
        processes.iter().any(|process| process["address"] == *address),
        "{:?}",
        without_metrics(&processes)
    );
}

/// Waits until one process of `role` is listed with this error, and all others with their metrics.
async fn error_listed(system: &System, role: &str, error: &str) {
    wait_for(error, TIMEOUT, async || {
        let processes = listed(system, 0).await?;
        let broken: Vec<_> = processes.iter().filter(|it| !it["metrics"].is_string()).collect();
        let is_expected =
            |it: &&Value| it["role"] == role && it["error"].as_str().is_some_and(|text| text.contains(error));
        anyhow::ensure!(broken.len() == 1 && broken.iter().all(is_expected), "{broken:?}");
        anyhow::ensure!(processes.len() > 1);
        Ok(())
    })
    .await
    .unwrap();
}
