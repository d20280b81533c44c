//! Which schema a frame has.

use std::collections::HashMap;

use serde_json::Value;

use super::documents::Documents;

/// The schemas of frames by their `cmd`.
#[derive(Debug)]
pub(crate) struct Frames {
    from_clients: HashMap<i64, String>,
    from_server: HashMap<i64, String>,
}

/// The `cmd` of events, which have a schema for each type.
const EVENT: i64 = 7;

impl Frames {
    pub(crate) fn new(documents: &Documents) -> Self {
        let of = |prefix: &str| {
            let named = documents.schemas().filter(|(name, _)| name.starts_with(prefix));
            named
                .filter_map(|(name, schema)| {
                    let cmd = schema.pointer("/properties/cmd/const")?.as_i64()?;
                    Some((cmd, name.to_owned()))
                })
                .collect()
        };
        Self { from_clients: of("client."), from_server: of("server.") }
    }

    /// The schema of a frame from the server: `server.pull`, `server.error`, `event.ack`.
    pub(crate) fn of_server(&self, frame: &Value) -> Option<String> {
        match (frame.get("cmd")?.as_i64()?, frame.get("code")?.as_u64()?) {
            (EVENT, 0) => Some(format!("event.{}", frame.pointer("/payload/type")?.as_str()?)),
            (cmd, 0) => self.from_server.get(&cmd).cloned(),
            _ => Some("server.error".to_owned()),
        }
    }

    /// The schema of a frame from a client: `client.pull`.
    pub(crate) fn of_client(&self, frame: &Value) -> Option<&str> {
        let cmd = frame.get("cmd")?;
        let cmd = cmd.as_i64().or_else(|| {
            // 2.0 is 2.
            let number = cmd.as_f64().filter(|number| number.fract() == 0.0)?;
            self.from_clients.keys().copied().find(|cmd| *cmd as f64 == number)
        })?;
        self.from_clients.get(&cmd).map(String::as_str)
    }
}
