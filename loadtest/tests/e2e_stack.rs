//! The launcher: the real `loadtest stack`, with real kills and signals.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::client::{Chat, Client};
use testbed::stack::wait_for;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// For one line of output, such as the one after a start.
const LINE_TIMEOUT: Duration = Duration::from_secs(120);
/// From the start of a launcher, or from a signal, until its end.
const END_TIMEOUT: Duration = Duration::from_secs(180);
/// The exit code of an error.
const ERROR: Option<i32> = Some(4);

/// A running `loadtest stack`.
struct Launcher {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    output: Vec<String>,
}

impl Launcher {
    /// Its temporary folders are in `folder`.
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .arg("stack")
            .args(arguments)
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, output: Vec::new() }
    }

    /// Starts a system and waits until it is ready.
    async fn up(folder: &Path, arguments: &[&str]) -> Self {
        let data = folder.join("data").display().to_string();
        let mut launcher = Self::start(folder, &[&["up", "--data", &data], arguments].concat());
        launcher.wait_for_line("Ctrl-C stops everything").await;
        launcher
    }

    /// The next line that contains `text`.
    async fn wait_for_line(&mut self, text: &str) -> String {
        loop {
            let line = tokio::time::timeout(LINE_TIMEOUT, self.lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("no line with {text:?} after {:#?}", self.output));
            let Some(line) = line.unwrap() else {
                panic!("it ended before a line with {text:?}: {:#?}", self.output)
            };
            self.output.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The process id in the last line that contains `text`.
    fn process(&self, text: &str) -> i32 {
        let line =
            self.output.iter().rev().find(|line| line.contains(text) && line.contains("process ")).unwrap();
        let id = line.rsplit_once("process ").unwrap().1;
        id.trim_end_matches(')').parse().unwrap()
    }

    fn gateway_url(&self) -> &str {
        let line = self.output.iter().find(|line| line.contains("ws://")).unwrap();
        line.split_whitespace().next().unwrap()
    }

    fn id(&self) -> i32 {
        i32::try_from(self.child.id().unwrap()).unwrap()
    }

    /// Its exit code, and what it wrote to standard error.
    async fn end(mut self) -> (Option<i32>, String) {
        let mut stderr = self.child.stderr.take().unwrap();
        let mut errors = String::new();
        let output = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.output.push(line);
            }
        };
        let read = tokio::io::AsyncReadExt::read_to_string(&mut stderr, &mut errors);
        let ended = async { tokio::join!(output, read, self.child.wait()) };
        let (.., status) = tokio::time::timeout(END_TIMEOUT, ended).await.unwrap();
        (status.unwrap().code(), errors)
    }
}

fn signal(process: i32, signal: Signal) {
    kill(Pid::from_raw(process), signal).unwrap();
}

/// Waits until `process` has ended; one that nobody has waited for counts too.
async fn gone(process: i32) {
    wait_for("the end of a process", END_TIMEOUT, async || {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(')').map_or("Z", |(_, rest)| rest.trim_start());
        anyhow::ensure!(state.starts_with('Z'), "{process} still runs: {stat}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Waits until a message is stored and pulled again.
async fn works(gateway: &str) {
    wait_for("a stored message", LINE_TIMEOUT, async || {
        let conversation = "group_launcher".to_owned();
        let msg_id = uuid::Uuid::new_v4().to_string();
        let chat =
            Chat { conversation: conversation.clone(), msg_id, content: "hello".to_owned(), stored: true };
        let mut client = Client::connect(gateway, "alice").await?;
        let answer = client.chat(&chat).await?;
        anyhow::ensure!(answer.code == 0, "{answer:?}");
        let seq = answer.seq.unwrap();
        let messages = client.pull_all(&conversation, seq - 1).await?;
        anyhow::ensure!(messages.iter().any(|message| message.seq == seq), "{messages:?}");
        Ok(())
    })
    .await
    .unwrap();
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

#[tokio::test]
async fn a_killed_process_is_reported_and_restarted_on_the_same_port() {
    let folder = tempfile::tempdir().unwrap();
    let mut launcher = Launcher::up(folder.path(), &["--set", "drain.spread_ms=0"]).await;
    let gateway = launcher.gateway_url().to_owned();
    // The page's address is the last line.
    launcher.wait_for_line("in a browser").await;
    launcher.wait_for_line(&format!("{}/", testbed::client::http_base(&gateway))).await;
    works(&gateway).await;
    // The second is the text of its line in the list of processes.
    for (name, listed) in
        [("gateway 0", gateway.as_str()), ("worker 0", "worker 0"), ("Redis", "Redis:"), ("MySQL", "MySQL:")]
    {
        let process = launcher.process(listed);
        signal(process, Signal::SIGKILL);
        let ended = launcher.wait_for_line(&format!("{name} ended")).await;
        assert!(ended.contains("SIGKILL") && ended.contains(".log"), "{ended}");
        launcher.wait_for_line(&format!("starting {name} again")).await;
        let lines = &launcher.output;
        assert!(lines.iter().any(|line| line.starts_with("  | ")), "no lines of the log in {lines:#?}");
        launcher.wait_for_line(&format!("{name} is ready again")).await;
        assert_ne!(launcher.process(&format!("{name} is ready again")), process);
        works(&gateway).await;
    }
    let processes = ["gateway 0 is ready", "worker 0 is ready", "Redis is ready", "RabbitMQ:"];
    let processes = processes.map(|text| launcher.process(text));
    signal(launcher.id(), Signal::SIGTERM);
    let (code, errors) = launcher.end().await;
    assert_eq!(code, Some(0), "{errors}");
    for process in processes {
        gone(process).await;
    }
}

#[tokio::test]
async fn a_process_that_ends_four_times_in_a_minute_stops_everything() {
    let folder = tempfile::tempdir().unwrap();
    let mut launcher = Launcher::up(folder.path(), &["--gateways", "1", "--workers", "1"]).await;
    let gateway = launcher.gateway_url().to_owned();
    let (mut process, others) = (launcher.process(&gateway), ["worker 0", "MySQL:", "Redis:", "RabbitMQ:"]);
    let others = others.map(|text| launcher.process(text));
    for _ in 0..3 {
        signal(process, Signal::SIGKILL);
        launcher.wait_for_line("gateway 0 is ready again").await;
        process = launcher.process("gateway 0 is ready again");
    }
    signal(process, Signal::SIGKILL);
    let (code, errors) = launcher.end().await;
    assert_eq!(code, ERROR, "{errors}");
    assert!(errors.contains("gateway 0 ended") && errors.contains("4 times within 60 s"), "{errors}");
    for process in others {
        gone(process).await;
    }
}

#[tokio::test]
async fn a_taken_port_is_an_error_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let data = folder.path().join("data").display().to_string();
    let launcher = Launcher::start(folder.path(), &["up", "--port", &port, "--data", &data]);
    let (code, errors) = launcher.end().await;
    assert_eq!(code, ERROR, "{errors}");
    assert!(errors.contains(&format!("port {port}")) && errors.contains("ss -ltnp"), "{errors}");
    assert!(is_empty(folder.path()));
}

#[tokio::test]
async fn a_setting_that_does_not_exist_or_has_a_wrong_value_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let unknown = Launcher::start(folder.path(), &["up", "--set", "limits.batches=8"]);
    let (code, errors) = unknown.end().await;
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("limits.batches is no setting"), "{errors}");
    let data = folder.path().join("data").display().to_string();
    let arguments = ["up", "--data", &data, "--set", "limits.batches_at_once=many"];
    let (code, errors) = Launcher::start(folder.path(), &arguments).end().await;
    assert_eq!(code, ERROR, "{errors}");
    assert!(errors.contains("batches_at_once") && errors.contains("many"), "{errors}");
}

#[tokio::test]
async fn an_interrupted_test_run_leaves_no_process_and_no_folder() {
    let (folder, notes) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let note = notes.path().join("process");
    // A test in a session of its own, as a test runner starts them.
    let script =
        format!("setsid sh -c 'echo $$ >{0}.new; mv {0}.new {0}; exec sleep 1000'; true", note.display());
    let launcher = Launcher::start(folder.path(), &["exec", "--", "sh", "-c", &script]);
    let test = noted(&note).await;
    assert!(!is_empty(folder.path()), "the servers have their data here");
    signal(launcher.id(), Signal::SIGINT);
    let (code, errors) = launcher.end().await;
    assert_eq!(code, Some(1), "{errors}");
    gone(test).await;
    assert!(is_empty(folder.path()));
}

#[tokio::test]
async fn the_tests_of_a_killed_test_runner_end() {
    let (folder, notes) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let note = notes.path().join("process");
    let script = format!(
        "setsid sh -c 'echo $$ >{0}.new; mv {0}.new {0}; exec sleep 1000' & \
         while ! test -e {0}; do sleep 0.01; done; kill -9 $$",
        note.display()
    );
    let launcher = Launcher::start(folder.path(), &["exec", "--", "sh", "-c", &script]);
    let test = noted(&note).await;
    let (code, errors) = launcher.end().await;
    assert_eq!(code, Some(1), "{errors}");
    gone(test).await;
    assert!(is_empty(folder.path()));
}

#[tokio::test]
async fn the_folders_of_a_killed_run_are_removed_by_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let killed = Launcher::start(folder.path(), &["exec", "--", "sleep", "1000"]);
    wait_for("the data of a server", LINE_TIMEOUT, async || {
        anyhow::ensure!(!is_empty(folder.path()), "there is no folder yet");
        Ok(())
    })
    .await
    .unwrap();
    signal(killed.id(), Signal::SIGKILL);
    killed.end().await;
    assert!(!is_empty(folder.path()), "it could not clean up");
    let (code, errors) = Launcher::start(folder.path(), &["exec", "--", "true"]).end().await;
    assert_eq!(code, Some(0), "{errors}");
    assert!(is_empty(folder.path()));
}

/// The process id in a file, once it is there.
async fn noted(file: &Path) -> i32 {
    let mut id = 0;
    wait_for("a process id", LINE_TIMEOUT, async || {
        id = std::fs::read_to_string(file)?.trim().parse()?;
        Ok(())
    })
    .await
    .unwrap();
    id
}
