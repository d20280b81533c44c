//! RabbitMQ's management API: the policies of queues, which AMQP does not show.

use std::time::Duration;

use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::addresses::Addresses;
use super::policies::QueuePolicies;
use crate::config::{Amqp, ConfigError};

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The fields of a queue that are of interest.
const COLUMNS: &str = "arguments,policy,operator_policy,effective_policy_definition,members";

/// Why the policies of a queue are not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManagementError {
    /// No answer, or one that is not understood.
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    /// User or password are wrong, or the user lacks a tag.
    #[error("{0}: the user needs the tag management and permissions on the vhost")]
    NoPermission(StatusCode),
    /// Another error of the API.
    #[error("{0}")]
    Status(StatusCode),
    /// The API does not know the policies of the queue (yet): it collects them every 5 s.
    #[error("the API does not show the policies of queue {0}: is its collection of metrics disabled?")]
    NotCollected(String),
}

/// What the API says about the server.
#[derive(Debug, Deserialize)]
struct Overview {
    rabbitmq_version: String,
}

/// What the API says about a node.
#[derive(Debug, Deserialize)]
struct Node {
    running: bool,
}

/// The management API of one vhost.
#[derive(Debug)]
pub(super) struct Management {
    client: Client,
    url: Url,
    user: String,
    password: String,
    vhost: String,
}

impl Management {
    /// The API that `settings` name, if they do.
    ///
    /// # Errors
    /// Names the invalid key.
    pub(super) fn new(settings: &Amqp) -> Result<Option<Self>, ConfigError> {
        let text = settings.management_url.expose();
        if text.is_empty() {
            return Ok(None);
        }
        let invalid = |why: String| ConfigError::key("amqp.management_url", why);
        let mut url = Url::parse(text).map_err(|error| invalid(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(invalid("is not http://host:port or https://host:port".to_owned()));
        }
        let amqp = Addresses::new(settings)?.first().clone();
        let (user, password) = if url.username().is_empty() {
            (amqp.authority.userinfo.username, amqp.authority.userinfo.password)
        } else {
            (decoded(url.username()), decoded(url.password().unwrap_or_default()))
        };
        // Neither fails for a URL with a host.
        let _ = (url.set_username(""), url.set_password(None));
        let mut client = Client::builder().timeout(TIMEOUT);
        if let Some(pem) = settings.tls().ca()? {
            let own = reqwest::Certificate::from_pem_bundle(&pem);
            client = client.tls_certs_merge(own.map_err(|error| settings.tls().unusable("tls_ca", error))?);
        }
        let client = client.build().map_err(|error| invalid(error.to_string()))?;
        Ok(Some(Self { client, url, user, password, vhost: amqp.vhost }))
    }

    /// The policies of a queue; `None` if there is no such queue.
    ///
    /// # Errors
    /// [`ManagementError`]
    pub(super) async fn policies(&self, queue: &str) -> Result<Option<QueuePolicies>, ManagementError> {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "queues", self.vhost.as_str(), queue]);
        }
        url.query_pairs_mut().append_pair("columns", COLUMNS);
        self.get(url).await
    }

    /// The number of nodes that run.
    ///
    /// # Errors
    /// [`ManagementError::NoPermission`] if the user lacks the tag `monitoring`.
    pub(super) async fn running_nodes(&self) -> Result<usize, ManagementError> {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "nodes"]);
        }
        url.query_pairs_mut().append_pair("columns", "running");
        let nodes: Vec<Node> = self.get(url).await?.unwrap_or_default();
        Ok(nodes.iter().filter(|node| node.running).count())
    }

    /// The version of the server.
    ///
    /// # Errors
    /// [`ManagementError`]
    pub(super) async fn version(&self) -> Result<String, ManagementError> {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "overview"]);
        }
        url.query_pairs_mut().append_pair("columns", "rabbitmq_version");
        let overview: Option<Overview> = self.get(url).await?;
        overview
            .map(|overview| overview.rabbitmq_version)
            .ok_or(ManagementError::Status(StatusCode::NOT_FOUND))
    }

    /// `None`: not found.
    async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<Option<T>, ManagementError> {
        let asked = self.client.get(url).basic_auth(&self.user, Some(&self.password)).send().await;
        let answer = asked.map_err(reqwest::Error::without_url)?;
        match answer.status() {
            StatusCode::OK => Ok(Some(answer.json().await.map_err(reqwest::Error::without_url)?)),
            StatusCode::NOT_FOUND => Ok(None),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(ManagementError::NoPermission(status))
            }
            status => Err(ManagementError::Status(status)),
        }
    }
}

/// A part of a URL without percent-encoding.
fn decoded(part: &str) -> String {
    percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn management(management_url: &str, url: &str) -> Result<Option<Management>, String> {
        let (url, management_url) = (url.into(), management_url.into());
        Management::new(&Amqp { url, management_url, ..Amqp::default() }).map_err(|error| error.to_string())
    }

    #[test]
    fn user_and_password_are_those_of_amqp_unless_given() {
        let one = |management_url| {
            let one = management(management_url, "amqp://ann:p%40ss@host:5672/my%2fhost").unwrap().unwrap();
            (one.url.to_string(), one.user, one.password, one.vhost)
        };
        let texts = |url: &str, user: &str, password: &str| {
            (url.to_owned(), user.to_owned(), password.to_owned(), "my/host".to_owned())
        };
        assert_eq!(one("http://host:15672"), texts("http://host:15672/", "ann", "p@ss"));
        assert_eq!(one("https://bob:x%20y@host/mq/"), texts("https://host/mq/", "bob", "x y"));
        assert!(management("", "amqp://host").unwrap().is_none());
    }

    #[test]
    fn an_invalid_address_is_named() {
        for url in ["host:15672", "amqp://host", "http://", "x"] {
            assert!(management(url, "amqp://host").unwrap_err().contains("amqp.management_url"), "{url}");
        }
    }
}
