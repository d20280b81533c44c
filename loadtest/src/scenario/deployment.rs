//! The gateways of a run, the credentials of its users, and its groups.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use testbed::client::{Client, ConnectError, Credentials, Http, Request, cause, http_base, tls_trouble};
use testbed::stack::System;

/// Members of one call; the protocol allows 1,000.
const MEMBERS_PER_CALL: usize = 1_000;

/// The gateways of a run, the credentials of its users, and the prefix of its names. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Deployment {
    gateways: Vec<String>,
    credentials: Credentials,
    http: Http,
    run: String,
}

impl Deployment {
    /// A deployment with these gateways (`ws://host:port/ws`, at least one).
    #[must_use]
    pub fn new(gateways: Vec<String>, credentials: Credentials) -> Self {
        let base = gateways.first().map(|gateway| http_base(gateway)).unwrap_or_default();
        let http = Http::of_nobody(&base);
        // Users and groups of a run have names of their own, also where earlier runs left theirs.
        let run = format!("lt{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        Self { gateways, credentials, http, run }
    }

    /// A system of this machine, whose users need no tokens.
    #[must_use]
    pub fn of(system: &System) -> Self {
        Self::new(system.ws_urls(), Credentials::Insecure)
    }

    /// The same with only some of its gateways.
    #[must_use]
    pub fn with_first(&self, gateways: usize) -> Self {
        Self { gateways: self.gateways.iter().take(gateways).cloned().collect(), ..self.clone() }
    }

    /// Addresses of the gateways.
    #[must_use]
    pub fn gateways(&self) -> &[String] {
        &self.gateways
    }

    /// The gateway of the `n`th client: clients are spread evenly.
    #[must_use]
    pub fn gateway(&self, n: usize) -> &str {
        &self.gateways[n % self.gateways.len()]
    }

    /// How users prove who they are.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// A name that only this run has; it begins the names of users and groups.
    #[must_use]
    pub fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.run)
    }

    /// Connects `user` as the `n`th client.
    ///
    /// # Errors
    /// If there is no WebSocket.
    pub async fn connect(&self, n: usize, user: &str) -> anyhow::Result<Client> {
        let gateway = self.gateway(n);
        Client::connect_with(&self.credentials, gateway, user)
            .await
            .map_err(|error| explained(error, gateway, &self.credentials))
            .with_context(|| format!("connecting {user} to {gateway}"))
    }

    /// Connects `user`, who is a member of `conversation`.
    ///
    /// # Errors
    /// If there is no WebSocket, or the user may not read the conversation.
    pub async fn join(&self, n: usize, user: &str, conversation: &str) -> anyhow::Result<Client> {
        let mut client = self.connect(n, user).await?;
        loop {
            let reply = client.pull(conversation, 0, 1).await?;
            if let Some(wait) = reply.retry_after_ms() {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                continue;
            }
            anyhow::ensure!(
                reply.code == 0,
                "{user} may not read {conversation}: {} ({})",
                reply.payload,
                cause(Request::Read, reply.code, "")
            );
            return Ok(client);
        }
    }

    /// Checks that each gateway is there, accepts the credentials, and answers.
    ///
    /// # Errors
    /// What is wrong, with the option or setting that mends it.
    pub async fn check(&self) -> anyhow::Result<()> {
        for n in 0..self.gateways.len() {
            let mut client = self.connect(n, &self.name("check")).await?;
            let reply = client.request(0, r#"{"cmd":0}"#).await.with_context(|| {
                format!("{} closes the connection of a user: see the gateway's log", self.gateway(n))
            })?;
            anyhow::ensure!(reply.code == 0, "{} answers a heartbeat with {}", self.gateway(n), reply.code);
        }
        Ok(())
    }

    /// Makes a group over HTTP; the first member is its owner. A group that exists is left as it is.
    ///
    /// # Errors
    /// If the gateway refuses.
    pub async fn make_group(&self, id: &str, members: &[String]) -> anyhow::Result<()> {
        let owner = members.first().context("a group without members")?;
        let http = self.http.with_caller(self.credentials.caller(owner).await?);
        let mut calls = members.chunks(MEMBERS_PER_CALL);
        let first = calls.next().unwrap_or_default();
        let new = json!({"conversation_id": id, "members": first});
        let (status, answer, _) = http.call_when_allowed("POST", "/api/groups", &new).await?;
        // 409: it exists, also if a call that was answered with 503 was done after all.
        anyhow::ensure!(matches!(status, 200 | 409), "making {id}: {}", sentence(status, &answer));
        for users in calls {
            let path = format!("/api/groups/{id}/members");
            let more = json!({"user_ids": users});
            let (status, answer, _) = http.call_when_allowed("POST", &path, &more).await?;
            anyhow::ensure!(status == 200, "adding members to {id}: {}", sentence(status, &answer));
        }
        Ok(())
    }
}

fn sentence(status: u16, answer: &Value) -> String {
    let message = answer["message"].as_str().unwrap_or("without a reason");
    match status {
        401 => format!("401: {message} ({})", cause(Request::Connect, 401, "")),
        _ => format!("{status}: {message}"),
    }
}

fn explained(error: ConnectError, gateway: &str, credentials: &Credentials) -> anyhow::Error {
    if let Some(sentence) = tls_trouble(gateway, &error) {
        return anyhow::anyhow!(sentence);
    }
    let hint = match (&error, credentials) {
        (ConnectError::Refused { status: 401, .. }, Credentials::Insecure) => {
            "the gateway wants tokens (auth.mode = \"jwt\"): give --hs256-secret-file or --operator-key-file"
        }
        (ConnectError::Refused { status: 401, .. }, Credentials::Secret(_)) => {
            "the gateway does not accept the token: the file must hold auth.hs256_secret, and auth.audience and \
             auth.issuer must be empty (otherwise give --operator-key-file)"
        }
        (ConnectError::Token(_), _) => {
            "the file of --operator-key-file must hold auth.api_key, and the gateway needs auth.hs256_secret to sign \
             tokens"
        }
        (ConnectError::Network(_), _) => {
            "is a gateway listening there, is the path /ws, and does it use TLS (wss://)?"
        }
        _ => return error.into(),
    };
    anyhow::Error::from(error).context(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_have_names_of_their_own_and_clients_are_spread() {
        let gateways = ["ws://a:1/ws", "ws://b:1/ws"].map(str::to_owned).to_vec();
        let one = Deployment::new(gateways.clone(), Credentials::Insecure);
        let other = Deployment::new(gateways, Credentials::Insecure);
        assert_ne!(one.name("storm"), other.name("storm"));
        assert_eq!(
            [one.gateway(0), one.gateway(1), one.gateway(2)],
            ["ws://a:1/ws", "ws://b:1/ws", "ws://a:1/ws"]
        );
        assert_eq!(one.with_first(1).gateways(), ["ws://a:1/ws"]);
    }
}
