//! What a user is told when a system is ready.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use testbed::stack::{ServerInfo, System};

/// Addresses, keys and passwords of a running system.
pub(super) struct Ready {
    after: Duration,
    /// Address for clients, address for health checks and metrics, process id.
    gateways: Vec<(String, String, u32)>,
    /// The first gateway's address for HTTP.
    page: Option<String>,
    /// Name, address for health checks and metrics, process id.
    workers: Vec<(String, String, u32)>,
    /// Empty if they were given.
    servers: Vec<ServerInfo>,
    operator_key: String,
    logs: PathBuf,
    /// Whether gateways serve the web client.
    has_page: bool,
}

impl Ready {
    pub(super) fn of(system: &mut System, after: Duration, has_page: bool) -> Self {
        let (mut gateways, mut workers) = (Vec::new(), Vec::new());
        let (count, page) = (system.gateway_count(), system.http_urls().into_iter().next());
        for (n, service) in system.services().enumerate() {
            let id = service.process().map_or(0, |process| process.id());
            if n < count {
                gateways.push((service.ws_url(), service.ops_url(), id));
            } else {
                workers.push((service.name().to_owned(), service.ops_url(), id));
            }
        }
        let servers = system.servers().map(|servers| servers.infos()).unwrap_or_default();
        let (operator_key, logs) = (system.operator_key().to_owned(), system.logs().to_owned());
        Self { after, gateways, page, workers, servers, operator_key, logs, has_page }
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ready after {:.1} s", self.after.as_secs_f64())?;
        for (url, ops, id) in &self.gateways {
            writeln!(f, "  {url:<28} {ops}/readyz   process {id}")?;
        }
        for (name, ops, id) in &self.workers {
            writeln!(f, "  {name:<28} {ops}/readyz   process {id}")?;
        }
        for ServerInfo { name, url, login, command, process } in &self.servers {
            writeln!(f, "\n{name}: {url}   {login}   process {process}")?;
            if let Some(command) = command {
                writeln!(f, "  {command}")?;
            }
        }
        writeln!(f, "\noperator's key (X-Api-Key), for calls under /api: {}", self.operator_key)?;
        writeln!(f, "\nconnect with any WebSocket client, for example")?;
        let url = self.gateways.first().map_or("", |(url, ..)| url);
        writeln!(f, "  websocat '{url}?user_id=carol'")?;
        writeln!(f, "and send")?;
        let chat = r#"{"cmd":2,"msg_id":"m1","conversation_id":"group_demo","payload":{"content":"hello"}}"#;
        writeln!(f, "  {chat}")?;
        writeln!(f, r#"  {{"cmd":3,"conversation_id":"group_demo","cursor_seq":0}}"#)?;
        write!(f, "\nlogs are in {}; Ctrl-C stops everything", self.logs.display())?;
        match &self.page {
            Some(http) if self.has_page => {
                write!(f, "\n\nchat in a browser, as alice, bob, carol, dave or any other name:\n  {http}/")
            }
            _ => Ok(()),
        }
    }
}
