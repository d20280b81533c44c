//! Users who are never connected, with a device each that shows notifications: what they are told is judged, too.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use testbed::client::{Client, Http};
use testbed::judge::{Lists, Verdict};
use testbed::push::{Delivered, PushDevice, WebPushService};
use testbed::stack::wait_for;

/// A gateway that was killed while it sent leaves a notification for half a minute, after the lease of 10 s.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A member of a group that is not connected.
#[derive(Debug)]
struct Absentee {
    user: String,
    group: String,
    device: PushDevice,
}

/// The absentees and their push service.
#[derive(Debug)]
pub(crate) struct Notified {
    /// It runs as long as this exists.
    push: WebPushService,
    absentees: Vec<Absentee>,
    gateways: Vec<String>,
}

/// What a device was told of its group, after it has dropped what it had shown.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// The last number.
    last: u64,
    /// Numbers that came again.
    repeated: usize,
    is_withdrawn: bool,
}

impl Notified {
    /// Lets a new user of each of `groups` join it, register a device and leave. `None` if notifications are off.
    pub(crate) async fn start(
        gateways: &[String],
        calls: &[String],
        groups: &[String],
    ) -> anyhow::Result<Option<Self>> {
        let config = Http::of_user(&calls[0], "nobody").call("GET", "/api/push/config", None).await?;
        let (200, config) = config else { return Ok(None) };
        let push = WebPushService::start().await?;
        let mut absentees = Vec::new();
        for (n, group) in groups.iter().enumerate() {
            let user = format!("{}absent", group.trim_start_matches("group_"));
            let joined =
                Client::connect(&gateways[n % gateways.len()], &user).await?.pull(group, 0, 1).await?;
            anyhow::ensure!(joined.code == 0, "{user} cannot join: {}", joined.payload);
            let device = push.subscribe(config["vapid_public_key"].as_str());
            let keys = json!({"p256dh": device.p256dh, "auth": device.auth});
            let body = json!({"endpoint": device.endpoint, "keys": keys});
            let call = Http::of_user(&calls[n % calls.len()], &user);
            call.ok("POST", "/api/push/subscriptions", Some(body)).await?;
            absentees.push(Absentee { user, group: group.clone(), device });
        }
        Ok(Some(Self { push, absentees, gateways: gateways.to_vec() }))
    }

    /// Waits until each device shows the last message of its group, lets its user read it, and waits until the device shows
    /// nothing. Returns how many notifications came, and how many of them devices had shown before.
    pub(crate) async fn finish(self, lists: &Lists, verdict: &mut Verdict) -> anyhow::Result<(usize, usize)> {
        let last_of = |group: &str| {
            let list = lists.get(group).map_or(&[][..], Vec::as_slice);
            list.iter().rfind(|message| !(3..=6).contains(&message.msg_type)).map_or(0, |message| message.seq)
        };
        let told: Vec<_> =
            self.absentees.iter().map(|absentee| (absentee, last_of(&absentee.group))).collect();
        for (Absentee { user, group, device }, last) in &told {
            let shown = wait_for("the last notification", TIMEOUT, async || {
                let told = told_of(&device.received(), group);
                anyhow::ensure!(
                    told.last >= *last && !told.is_withdrawn,
                    "{user} was told {told:?} of {last}"
                );
                Ok(())
            });
            if let Err(error) = shown.await {
                verdict.unnotified(&format!("{error:#}"));
            }
        }
        for (n, (Absentee { user, group, .. }, last)) in told.iter().enumerate() {
            let mut client = Client::connect(&self.gateways[n % self.gateways.len()], user).await?;
            let frame = json!({"cmd": 4, "conversation_id": group, "cursor_seq": last});
            let read = client.request(4, frame.to_string()).await?;
            anyhow::ensure!(read.code == 0, "{user} cannot read {group}: {}", read.payload);
        }
        for (Absentee { user, group, device }, _) in &told {
            let withdrawn = wait_for("the withdrawal", TIMEOUT, async || {
                let told = told_of(&device.received(), group);
                anyhow::ensure!(told.is_withdrawn, "{user} has read {group}, and was told {told:?}");
                Ok(())
            });
            if let Err(error) = withdrawn.await {
                verdict.unnotified(&format!("{error:#}"));
            }
        }
        for violation in self.push.violations() {
            verdict.unnotified(&format!("push service: {violation}"));
        }
        let all: usize = told.iter().map(|(absentee, _)| absentee.device.received().len()).sum();
        let repeated = told.iter().map(|(one, _)| told_of(&one.device.received(), &one.group).repeated).sum();
        Ok((all, repeated))
    }
}

fn told_of(delivered: &[Delivered], group: &str) -> Told {
    let mut by_group: BTreeMap<String, Told> = BTreeMap::new();
    for message in delivered.iter().map(Delivered::json) {
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        let seq = message["seq"].as_u64().unwrap_or(0);
        let told = by_group.entry(text("conversation_id")).or_default();
        match message["type"].as_str() {
            Some("message") if seq > told.last => (told.last, told.is_withdrawn) = (seq, false),
            Some("message") => told.repeated += 1,
            Some("read") if seq >= told.last => {
                (told.last, told.is_withdrawn) = (seq, true);
            }
            _ => {}
        }
    }
    by_group.remove(group).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(all: &[(&str, u64)]) -> (u64, usize, bool) {
        let delivered = all.iter().map(|(kind, seq)| Delivered {
            payload: json!({"type": kind, "conversation_id": "group_1", "seq": seq}).to_string().into(),
            topic: None,
            urgency: None,
            ttl_s: 0,
            vapid_key: String::new(),
            authorization: String::new(),
        });
        let Told { last, repeated, is_withdrawn } = told_of(&delivered.collect::<Vec<_>>(), "group_1");
        (last, repeated, is_withdrawn)
    }

    #[test]
    fn a_device_drops_what_it_has_shown() {
        assert_eq!(told(&[]), (0, 0, false));
        assert_eq!(told(&[("message", 3), ("message", 3), ("message", 5)]), (5, 1, false));
        assert_eq!(told(&[("message", 3), ("read", 4), ("message", 3)]), (4, 1, true));
        assert_eq!(told(&[("message", 5), ("read", 4)]), (5, 0, false));
        assert_eq!(told(&[("message", 5), ("read", 5), ("message", 6)]), (6, 0, false));
    }
}
