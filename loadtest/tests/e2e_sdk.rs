//! The TypeScript SDK and the example clients against real gateways: two gateways and two workers on real stores.
//!
//! The tests of the SDK are JavaScript. They ask for faults with lines such as `@kill 0` on standard output, and get the
//! line `done` on standard input. Tests are skipped, loudly, where their interpreter is missing.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use testbed::stack::{Builder, DEMO_SECRET, System};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::Mutex;

/// For one command, such as the installation of packages or one file of tests.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(200);
/// The oldest Node.js that the SDK supports.
const NODE_MAJOR_MIN: u32 = 20;

fn sdk() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/typescript")
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn skip(reason: &str) {
    eprintln!("\n*** SKIPPED: {reason} ***\n");
}

/// Runs a command to its end. Returns its output.
///
/// # Errors
/// If it cannot be started, fails, or takes too long; with its output.
async fn run(command: &mut Command) -> anyhow::Result<String> {
    let what = format!("{:?}", command.as_std());
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output =
        tokio::time::timeout(COMMAND_TIMEOUT, output).await.with_context(|| format!("{what} hangs"))?;
    let output = output.with_context(|| what.clone())?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    anyhow::ensure!(output.status.success(), "{what}: {}\n{text}", output.status);
    Ok(text)
}

/// Builds the SDK and its tests. Returns false, and says why, where that is not possible.
///
/// # Errors
/// If the build fails, or if packages cannot be installed in CI.
async fn build() -> anyhow::Result<bool> {
    static BUILT: Mutex<bool> = Mutex::const_new(false);
    let version = run(Command::new("node").arg("--version")).await.unwrap_or_default();
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    if major.is_none_or(|major: u32| major < NODE_MAJOR_MIN) {
        skip(&format!("the SDK needs Node.js {NODE_MAJOR_MIN} or later with npm; found {version:?}"));
        return Ok(false);
    }
    let mut built = BUILT.lock().await;
    if !*built {
        let lock = |path: &str| std::fs::metadata(sdk().join(path)).and_then(|file| file.modified()).ok();
        let installed = lock("node_modules/.package-lock.json") >= lock("package-lock.json");
        if !installed && let Err(error) = run(Command::new("npm").arg("ci").current_dir(sdk())).await {
            anyhow::ensure!(std::env::var_os("CI").is_none(), "{error:#}");
            skip(&format!("the SDK's development packages cannot be installed: {error:#}"));
            return Ok(false);
        }
        run(Command::new("npm").args(["run", "-s", "build:test"]).current_dir(sdk())).await?;
        *built = true;
    }
    Ok(true)
}

async fn system() -> System {
    Builder::new().unlimited().for_test().await.unwrap()
}

/// Carries out a fault that the script asks for.
///
/// # Errors
/// If the request is malformed or a gateway does not start.
async fn carry_out(system: &mut System, request: &str) -> anyhow::Result<()> {
    let (what, n) = request.split_once(' ').context("no number")?;
    let gateway = system.gateway(n.trim().parse()?);
    match what {
        "kill" => gateway.kill(),
        "start" => gateway.start_again().await?,
        "drain" => {
            let status = gateway.terminate().await;
            anyhow::ensure!(status.is_some_and(|status| status.success()), "it did not drain: {status:?}");
        }
        other => anyhow::bail!("unknown request {other}"),
    }
    Ok(())
}

/// Runs a script of the SDK's tests, which may ask for faults.
///
/// # Errors
/// If it fails or takes too long.
async fn play(system: &mut System, script: &str) -> anyhow::Result<()> {
    let mut child = Command::new("node")
        .arg(sdk().join("build/test/conformance").join(script))
        .env("IM_GATEWAYS", system.ws_urls().join(","))
        .env("IM_SECRET", DEMO_SECRET)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let mut answers = child.stdin.take().context("no input")?;
    let playing = async {
        while let Some(line) = lines.next_line().await? {
            println!("{line}");
            let Some(request) = line.strip_prefix('@') else { continue };
            let answer = match carry_out(system, request).await {
                Ok(()) => "done".to_owned(),
                Err(error) => format!("{error:#}").replace('\n', " "),
            };
            answers.write_all(format!("{answer}\n").as_bytes()).await?;
        }
        anyhow::Ok(child.wait().await?)
    };
    let status = tokio::time::timeout(COMMAND_TIMEOUT, playing).await.context("the script hangs")??;
    anyhow::ensure!(status.success(), "{script}: {status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reader_of_the_sdk_ends_with_the_identical_list() {
    if build().await.unwrap() {
        let mut system = system().await;
        play(&mut system, "readers.conformance.js").await.unwrap();
        system.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_keeps_the_rules_of_the_protocol() {
    if build().await.unwrap() {
        let mut system = system().await;
        play(&mut system, "rules.conformance.js").await.unwrap();
        system.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_makes_every_call_and_tells_every_event() {
    if build().await.unwrap() {
        let mut system = system().await;
        play(&mut system, "calls.conformance.js").await.unwrap();
        system.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_shows_changes_of_messages_and_the_users_own_view() {
    if build().await.unwrap() {
        let mut system = system().await;
        play(&mut system, "life.conformance.js").await.unwrap();
        system.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_uploads_files_goes_on_after_a_cut_and_shows_them() {
    if build().await.unwrap() {
        let mut system = system().await;
        play(&mut system, "files.conformance.js").await.unwrap();
        system.stop().await;
    }
}

/// Lint, unit tests, size, and the shape of the package.
#[tokio::test(flavor = "multi_thread")]
async fn the_package_of_the_sdk_is_small_and_well_formed() {
    if build().await.unwrap() {
        for script in ["lint", "test", "check"] {
            run(Command::new("npm").args(["run", "-s", script]).current_dir(sdk())).await.unwrap();
        }
    }
}

/// What a user of the package does: installs it into an empty project and runs the example of the README.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_the_readme_of_the_sdk_runs_in_an_empty_project() {
    if !build().await.unwrap() {
        return;
    }
    let readme = std::fs::read_to_string(sdk().join("README.md")).unwrap();
    let example = readme.split("```js\n").nth(1).unwrap().split("```").next().unwrap();
    let project = tempfile::tempdir().unwrap();
    let folder = project.path();
    run(Command::new("npm").args(["pack", "--pack-destination"]).arg(folder).current_dir(sdk()))
        .await
        .unwrap();
    let package = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    std::fs::write(folder.join("package.json"), r#"{"private":true,"type":"module"}"#).unwrap();
    std::fs::write(folder.join("example.js"), example).unwrap();
    let ws = sdk().join("node_modules/ws");
    let install = ["install", "--offline", "--install-links", "--no-audit", "--no-fund"];
    run(Command::new("npm").args(install).arg(&package).arg(ws).current_dir(folder)).await.unwrap();
    let system = system().await;
    let output =
        run(Command::new("node").arg("example.js").env("IM_URL", &system.http_urls()[0]).current_dir(folder))
            .await;
    let output = output.unwrap();
    assert!(output.contains("alice: Hello, Bob"), "{output}");
    system.stop().await;
}

/// The example sends three messages and prints each once when it comes back.
async fn converse(system: &System, example: &mut Command) {
    let url = &system.ws_urls()[0];
    let output =
        run(example.args([url, "carol", "group_examples", "three messages", "of an", "example"])).await;
    let output = output.unwrap();
    for text in ["carol: three messages", "carol: of an", "carol: example"] {
        assert_eq!(output.matches(text).count(), 1, "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_python_sends_and_reads() {
    let python = Command::new("python3").args(["-c", "import websockets"]).output().await;
    if !python.is_ok_and(|output| output.status.success()) {
        return skip("the example in Python needs python3 with the package websockets");
    }
    let system = system().await;
    converse(&system, Command::new("python3").arg(examples().join("python/chat.py"))).await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_go_sends_and_reads() {
    let packages = Path::new("/usr/share/gocode");
    let needed = packages.join("src/github.com/gorilla/websocket").exists();
    if !needed || Command::new("go").arg("version").output().await.is_err() {
        return skip("the example in Go needs Debian's golang-go and golang-github-gorilla-websocket-dev");
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("chat");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg("chat.go").current_dir(examples().join("go"));
    build.env("GO111MODULE", "off").env("GOPATH", packages).env("GOCACHE", folder.path().join("cache"));
    run(&mut build).await.unwrap();
    let system = system().await;
    converse(&system, &mut Command::new(program)).await;
    system.stop().await;
}
