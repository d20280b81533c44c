//! FCM and APNs.

use serde_json::{Value, json};
use testbed::certificates::Authority;
use testbed::client::{Client, Http};
use testbed::push::{ApnsService, FcmService};
use testbed::stack::wait_for;

use super::support::{CHAT, TIMEOUT, builder, read, say};

const PATH: &str = "/api/push/subscriptions";

/// Waits until the ended one of two tokens is removed.
async fn one_is_left(bob: &Http) {
    wait_for("the end of the token", TIMEOUT, async || {
        let list = bob.ok("GET", PATH, None).await?;
        anyhow::ensure!(list["subscriptions"].as_array().unwrap().len() == 1, "{list}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fcm_shows_withdraws_and_ends_tokens_with_the_unread_total_as_the_badge() {
    let fcm = FcmService::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let account = folder.path().join("account.json");
    std::fs::write(&account, fcm.service_account()).unwrap();
    let system = builder()
        .set("IM__PUSH__FCM_SERVICE_ACCOUNT_FILE", account.display())
        .set("IM__PUSH__FCM_URL", fcm.url())
        .for_test()
        .await
        .unwrap();
    let bob = system.http(0, "bob");
    say(&system, "eve", "private_bob_eve", "e1", "before bob has a device").await;
    let (token, gone) = (fcm.register(), fcm.register());
    fcm.unregister(&gone);
    for token in [&token, &gone] {
        bob.ok("POST", PATH, Some(json!({"kind": "fcm", "token": token}))).await.unwrap();
    }
    let seq = say(&system, "ann", CHAT, "m1", "hello").await;
    // The message of eve may be notified of, too: the reader begins after the registration.
    let about_chat = async |kind: &str| {
        let mut found = None;
        wait_for("the message of FCM", TIMEOUT, async || {
            let received = fcm.received(&token);
            let is_wanted =
                |one: &Value| one["data"]["conversation_id"] == CHAT && one["data"]["type"] == kind;
            found = received.iter().find(|one| is_wanted(one)).cloned();
            anyhow::ensure!(found.is_some(), "{received:?}");
            Ok(())
        })
        .await
        .unwrap();
        found.unwrap()
    };
    let shown = about_chat("message").await;
    assert_eq!(shown["notification"], json!({"title": "ann", "body": "hello"}), "{shown}");
    let data = &shown["data"];
    assert_eq!((&data["type"], &data["conversation_id"]), (&json!("message"), &json!(CHAT)));
    assert_eq!((&data["seq"], &data["count"]), (&json!(seq.to_string()), &json!("1")));
    assert_eq!(shown["android"]["notification"]["notification_count"], 2, "with the message of eve: {shown}");
    one_is_left(&bob).await;
    let mut client = Client::connect(&system.ws_urls()[0], "bob").await.unwrap();
    read(&mut client, CHAT, seq).await;
    let withdrawn = about_chat("read").await;
    assert_eq!(withdrawn["data"]["badge"], "1", "{withdrawn}");
    assert_eq!(withdrawn["notification"], json!(null), "{withdrawn}");
}

#[tokio::test(flavor = "multi_thread")]
async fn apns_shows_withdraws_and_ends_tokens_with_the_unread_total_as_the_badge() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("push services").unwrap();
    let apns = ApnsService::start(Some(&authority)).await.unwrap();
    let (ca, key) = (folder.path().join("ca.pem"), folder.path().join("key.p8"));
    std::fs::write(&ca, authority.pem()).unwrap();
    std::fs::write(&key, apns.key()).unwrap();
    let system = builder()
        .set("IM__PUSH__VAPID_KEYS", "")
        .set("IM__OUTGOING__TLS_CA", ca.display())
        .set("IM__PUSH__APNS_KEY_FILE", key.display())
        .set("IM__PUSH__APNS_KEY_ID", ApnsService::KEY_ID)
        .set("IM__PUSH__APNS_TEAM_ID", ApnsService::TEAM_ID)
        .set("IM__PUSH__APNS_TOPIC", ApnsService::TOPIC)
        .set("IM__PUSH__APNS_URL", apns.url())
        .for_test()
        .await
        .unwrap();
    let bob = system.http(0, "bob");
    let (token, gone) = (apns.register(), apns.register());
    apns.unregister(&gone);
    for token in [&token, &gone] {
        bob.ok("POST", PATH, Some(json!({"kind": "apns", "token": token}))).await.unwrap();
    }
    let seq = say(&system, "ann", CHAT, "m1", "hello").await;
    let shown = &apns.wait_for(&token, 1).await[0];
    assert_eq!(shown.payload["aps"]["alert"], json!({"title": "ann", "body": "hello"}), "{shown:?}");
    assert_eq!(shown.payload["aps"]["badge"], 1);
    assert_eq!(shown.payload["data"]["seq"], seq, "{shown:?}");
    one_is_left(&bob).await;
    let mut client = Client::connect(&system.ws_urls()[0], "bob").await.unwrap();
    read(&mut client, CHAT, seq).await;
    let withdrawn = &apns.wait_for(&token, 2).await[1];
    assert_eq!(
        (&withdrawn.payload["data"]["type"], &withdrawn.payload["aps"]["badge"]),
        (&json!("read"), &json!(0))
    );
}
