//! The echo bot of the examples, which is killed again and again, and the processes around it too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::client::{Credentials, Http};
use testbed::example::has_python;
use testbed::stack::wait_for;
use tokio::process::{Child, Command};

use super::support::{TIMEOUT, make_group, messages, system};

const CONVERSATIONS: [&str; 4] = ["group_echo1", "group_echo2", "private_ann_echo", "private_bob_echo"];
const ROUNDS: usize = 8;
const MESSAGES: usize = 12;
/// The longest time until a killed process is there again and an accepted message is stored.
const LONG_TIMEOUT: Duration = Duration::from_secs(90);

struct EchoBot {
    gateways: Vec<String>,
    token: String,
    folder: PathBuf,
}

impl EchoBot {
    fn start(&self) -> Child {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python/echo_bot.py");
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        Command::new("python3")
            .arg(program)
            .args(&self.gateways)
            .arg(self.cursor())
            .env("IM_TOKEN", &self.token)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    fn cursor(&self) -> PathBuf {
        self.folder.join("cursor")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

/// Sends a text by any of the gateways, until it is accepted.
async fn send(gateways: &[Http], conversation: &str, text: &str) {
    let body = json!({"msg_id": text, "payload": {"content": text}});
    let until = Instant::now() + LONG_TIMEOUT;
    for gateway in gateways.iter().cycle() {
        match gateway.call("POST", &messages(conversation), Some(&body)).await {
            Ok((200, _)) => return,
            answer => assert!(Instant::now() < until, "{answer:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// All messages of a conversation.
async fn pull(http: &Http, conversation: &str) -> anyhow::Result<Vec<Value>> {
    let (mut all, mut cursor) = (Vec::new(), 0);
    loop {
        let path = format!("{}?cursor_seq={cursor}&limit=500", messages(conversation));
        let page = http.ok("GET", &path, None).await?;
        all.extend(page["payload"].as_array().cloned().unwrap_or_default());
        cursor = page["next_cursor_seq"].as_u64().unwrap();
        if page["has_more"] == false {
            return Ok(all);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_echo_bot_answers_each_message_once_whichever_process_is_killed() {
    if !has_python("the echo bot") {
        return;
    }
    let mut system = system().await;
    let urls = system.http_urls();
    let of_user = |user: &str| urls.iter().map(|url| Http::of_user(url, user)).collect::<Vec<_>>();
    let (ann, bob) = (of_user("ann"), of_user("bob"));
    for group in &CONVERSATIONS[..2] {
        make_group(&ann[0], group, &["bob", "echo"], "start").await;
    }
    let token = Credentials::operator(&urls[0], system.operator_key()).token("echo").await.unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bot = EchoBot { gateways: urls.clone(), token, folder: folder.path().to_owned() };
    let mut running = bot.start();
    wait_for("the first cursor", TIMEOUT, async || {
        anyhow::ensure!(bot.cursor().exists(), "{:?}", std::fs::read_to_string(bot.log()));
        Ok(())
    })
    .await
    .unwrap();

    for round in 0..ROUNDS {
        let mut sending = tokio::task::JoinSet::new();
        for (n, conversation) in CONVERSATIONS.into_iter().enumerate() {
            let gateways = if conversation.contains("bob") { bob.clone() } else { ann.clone() };
            sending.spawn(async move {
                for m in 0..MESSAGES {
                    send(&gateways, conversation, &format!("text-{round}.{n}.{m}")).await;
                }
            });
        }
        // The bot dies after one more of the answers of this round, wherever it is then.
        let seen = std::fs::read_to_string(bot.log()).unwrap().lines().count();
        let answers = rand::random_range(1..20);
        wait_for("answers", LONG_TIMEOUT, async || {
            let log = std::fs::read_to_string(bot.log())?;
            anyhow::ensure!(log.lines().count() >= seen + answers, "{log}");
            Ok(())
        })
        .await
        .unwrap();
        running.start_kill().unwrap();
        match round % 4 {
            0 => system.worker(round / 4).kill(),
            1 => system.gateway(0).kill(),
            2 => system.gateway(1).kill(),
            _ => {}
        }
        running.wait().await.unwrap();
        running = bot.start();
        match round % 4 {
            0 => system.worker(round / 4).start_again().await.unwrap(),
            1 => system.gateway(0).start_again().await.unwrap(),
            2 => system.gateway(1).start_again().await.unwrap(),
            _ => {}
        }
        while let Some(sent) = sending.join_next().await {
            sent.unwrap();
        }
    }

    for (n, conversation) in CONVERSATIONS.into_iter().enumerate() {
        let expected: BTreeMap<String, usize> = (0..ROUNDS)
            .flat_map(|round| (0..MESSAGES).map(move |m| (format!("echo: text-{round}.{n}.{m}"), 1)))
            .collect();
        let mut all = Vec::new();
        wait_for("all answers", LONG_TIMEOUT, async || {
            all = pull(&bob[0], conversation).await.or(pull(&ann[0], conversation).await)?;
            let answers = all.iter().filter(|message| message["sender_id"] == "echo").count();
            anyhow::ensure!(answers >= expected.len(), "{answers} of {}", expected.len());
            Ok(())
        })
        .await
        .unwrap();
        let mut answers = BTreeMap::<String, usize>::new();
        for message in all.iter().filter(|message| message["sender_id"] == "echo") {
            *answers.entry(message["content"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        assert_eq!(answers, expected, "{conversation}");
        assert_eq!(all.len(), 2 * expected.len(), "{conversation}");
    }
    running.kill().await.unwrap();
    system.stop().await;
}
