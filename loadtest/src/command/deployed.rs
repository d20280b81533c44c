//! Options for a running deployment.

use std::path::PathBuf;

use clap::Args;
use loadtest::scenario::Deployment;
use serde::{Serialize, Serializer};
use testbed::client::{Credentials, http_base, trust};

/// How users prove who they are, at a running deployment. Without one of these, users have no tokens, which gateways with
/// `auth.mode = "insecure"` accept.
#[derive(Debug, Args, Serialize)]
pub(super) struct Tokens {
    /// File with the deployment's auth.hs256_secret: tokens of test users are signed with it.
    #[arg(long, value_name = "FILE", requires = "gateway", conflicts_with = "operator_key_file")]
    hs256_secret_file: Option<PathBuf>,
    /// File with the deployment's auth.api_key: tokens of test users are issued by POST /api/admin/tokens.
    #[arg(long, value_name = "FILE", requires = "gateway")]
    operator_key_file: Option<PathBuf>,
    /// PEM file with the authority of the gateways' certificates, which is trusted instead of those that this machine trusts.
    #[arg(long, value_name = "FILE", requires = "gateway")]
    ca: Option<PathBuf>,
}

impl Tokens {
    /// The deployment with these gateways; each was asked whether it accepts the tokens.
    ///
    /// # Errors
    /// If a file cannot be read, or a gateway does not answer or accept.
    pub(super) async fn deployment(&self, gateways: &[String]) -> anyhow::Result<Deployment> {
        if let Some(file) = &self.ca {
            trust(file)?;
        }
        let credentials = match (&self.hs256_secret_file, &self.operator_key_file) {
            (Some(file), _) => Credentials::from_secret_file(file)?,
            (None, Some(file)) => Credentials::from_operator_key_file(file, &http_base(&gateways[0]))?,
            (None, None) => Credentials::Insecure,
        };
        let deployment = Deployment::new(gateways.to_vec(), credentials);
        deployment.check().await?;
        Ok(deployment)
    }
}

/// Parses the address of a gateway: `ws://host:port/ws`, or with TLS `wss://host:port/ws`, where the path may be left out;
/// `http` and `https` mean the same.
pub(super) fn gateway(text: &str) -> Result<String, String> {
    let (scheme, port, rest) = match text.split_once("://") {
        Some(("ws" | "http", rest)) => ("ws", 80, rest),
        Some(("wss" | "https", rest)) => ("wss", 443, rest),
        _ => return Err("give ws://host:port/ws or wss://host:port/ws".into()),
    };
    if rest.contains(['?', '#', '@', ' ']) {
        return Err("give ws://host:port/ws without user, query and fragment".into());
    }
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    if host.is_empty() {
        return Err("give ws://host:port/ws".into());
    }
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") };
    Ok(match path {
        "" => format!("{scheme}://{host}/ws"),
        path => format!("{scheme}://{host}/{path}"),
    })
}

/// Writes settings into a report, without the values of secrets and addresses.
pub(super) fn without_secrets<S: Serializer>(
    settings: &[(String, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let hidden = |key: &str| ["SECRET", "KEY", "PASSWORD", "URL"].iter().any(|part| key.contains(part));
    serializer.collect_map(settings.iter().map(|(key, value)| {
        let value = if hidden(key) { "(not shown)" } else { value.as_str() };
        (key, value)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_a_web_socket_address_without_secrets() {
        for (text, address) in [
            ("ws://chat.example:8080/ws", Some("ws://chat.example:8080/ws")),
            ("ws://chat.example:8080", Some("ws://chat.example:8080/ws")),
            ("ws://chat.example/", Some("ws://chat.example:80/ws")),
            ("ws://10.0.0.1:1/im/ws", Some("ws://10.0.0.1:1/im/ws")),
            ("wss://chat.example/ws", Some("wss://chat.example:443/ws")),
            ("https://chat.example:8443", Some("wss://chat.example:8443/ws")),
            ("http://chat.example/ws", Some("ws://chat.example:80/ws")),
            ("wss://user@chat.example/ws", None),
            ("ftp://chat.example/ws", None),
            ("ws://user@chat.example/ws", None),
            ("ws://chat.example/ws?token=x", None),
            ("ws://", None),
            ("chat.example:8080", None),
        ] {
            assert_eq!(gateway(text).ok().as_deref(), address, "{text}");
        }
    }

    #[test]
    fn reports_do_not_show_secrets() {
        #[derive(Serialize)]
        struct Options {
            #[serde(serialize_with = "without_secrets")]
            settings: Vec<(String, String)>,
        }
        let settings =
            ["auth.hs256_secret=abc", "mysql.url=mysql://u:abc@h/s", "auth.api_key=abc", "shards.count=4"];
        let settings = settings.map(|text| testbed::stack::parse_setting(text).unwrap()).to_vec();
        let shown = serde_json::to_string(&Options { settings }).unwrap();
        assert!(!shown.contains("abc") && shown.contains(r#""IM__SHARDS__COUNT":"4""#), "{shown}");
    }
}
