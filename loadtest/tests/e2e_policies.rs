//! Policies of a real RabbitMQ that would delete accepted messages.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::time::Duration;

use testbed::client::Client;
use testbed::stack::{Builder, RabbitServer, Stores, System, TemporaryFolder, Urls, wait_for};

const TIMEOUT: Duration = Duration::from_secs(30);

/// One gateway and one worker on a RabbitMQ of their own, with its management API.
struct Own {
    system: System,
    rabbit: RabbitServer,
    _stores: Stores,
    _folder: TemporaryFolder,
}

impl Own {
    async fn start(builder: Builder, policy: Option<&str>) -> Self {
        let folder = TemporaryFolder::new().unwrap();
        let rabbit = RabbitServer::start_with_management(folder.path()).await.unwrap();
        if let Some(policy) = policy {
            rabbit.set_policy("all", ".*", policy).await.unwrap();
        }
        let stores = Stores::for_test().await.unwrap();
        let (mysql, redis) = (stores.mysql_url.clone(), stores.redis_url.clone());
        let urls = Urls { mysql, redis, amqp: rabbit.url() };
        let builder = builder.gateways(1).workers(1).unlimited().set("IM__SHARDS__COUNT", 1);
        let management = rabbit.management_url().unwrap();
        let system = builder.set("IM__AMQP__MANAGEMENT_URL", management).on(urls).await.unwrap();
        Self { system, rabbit, _stores: stores, _folder: folder }
    }

    /// The lines of the log of a process.
    fn log(&self, process: &str) -> String {
        std::fs::read_to_string(self.system.logs().join(process)).unwrap()
    }

    /// The gauge of queues with a harmful policy at the gateway.
    async fn harmful(&self) -> anyhow::Result<Option<f64>> {
        let metrics = reqwest::get(format!("{}/metrics", self.system.ops_urls()[0])).await?.text().await?;
        let line = metrics.lines().find_map(|line| line.strip_prefix("im_amqp_harmful_policies "));
        Ok(line.and_then(|value| value.parse().ok()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_deletes_messages_is_reported_until_it_is_gone() {
    let own = Own::start(Builder::new(), Some(r#"{"message-ttl":600000,"delivery-limit":3}"#)).await;
    for process in ["gateway-0.log", "worker-0.log"] {
        wait_for("the report", TIMEOUT, async || {
            let log = own.log(process);
            for part in [
                "im.msg.0 by policy all: message-ttl = 600000",
                "im.dead by policy all",
                "delivery-limit = 3",
            ] {
                anyhow::ensure!(log.contains(part), "{process} does not say: {part}");
            }
            Ok(())
        })
        .await
        .unwrap();
    }
    assert_eq!(own.harmful().await.unwrap(), Some(2.0));
    own.rabbit.clear_policy("all").await.unwrap();
    wait_for("the end of the policy", TIMEOUT, async || {
        anyhow::ensure!(own.harmful().await? == Some(0.0), "still harmful");
        Ok(())
    })
    .await
    .unwrap();
    assert!(own.log("gateway-0.log").contains("No policy of RabbitMQ deletes messages any more"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_limit_of_any_policy_deletes_no_accepted_message() {
    let mut own = Own::start(Builder::new(), Some(r#"{"max-length":5}"#)).await;
    wait_for("a look at the policies", TIMEOUT, async || {
        anyhow::ensure!(own.harmful().await? == Some(0.0), "not yet, or harmful");
        Ok(())
    })
    .await
    .unwrap();
    let url = own.system.ws_urls()[0].clone();
    let mut alice = Client::connect(&url, "alice").await.unwrap();
    alice.say("group_1", "first", "x").await.unwrap();
    own.system.worker(0).kill();
    let mut accepted = vec!["first".to_owned()];
    for n in 0..40 {
        let id = format!("m{n}");
        let frame = format!(
            r#"{{"cmd":2,"msg_id":"{id}","conversation_id":"group_1","payload":{{"content":"{n}"}}}}"#
        );
        match alice.request(2, frame).await.unwrap().code {
            0 => accepted.push(id),
            code => assert_eq!(code, 503),
        }
    }
    assert!((5..40).contains(&accepted.len()), "{} of 41 were accepted", accepted.len());
    own.system.worker(0).start_again().await.unwrap();
    let mut stored = Vec::new();
    wait_for("all accepted messages", TIMEOUT, async || {
        let page = alice_pull(&url).await?;
        stored = page;
        for id in &accepted {
            anyhow::ensure!(stored.contains(id), "{id} of {accepted:?} is not stored: {stored:?}");
        }
        Ok(())
    })
    .await
    .unwrap();
}

/// The ids of all messages in the group.
async fn alice_pull(url: &str) -> anyhow::Result<Vec<String>> {
    let mut alice = Client::connect(url, "alice").await?;
    let page = alice.pull("group_1", 0, 500).await?;
    let messages = page.payload.as_array().cloned().unwrap_or_default();
    Ok(messages.iter().filter_map(|message| Some(message["msg_id"].as_str()?.to_owned())).collect())
}
