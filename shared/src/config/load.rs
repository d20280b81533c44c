//! Reading a configuration from a file and the environment.

use std::path::Path;

use serde::de::DeserializeOwned;

/// The prefix of the environment variables that override keys: `IM__MYSQL__URL` is `mysql.url`.
const ENV_PREFIX: &str = "IM";

/// Keys whose value is a list, separated by commas in an environment variable.
const LISTS: [&str; 2] = ["listen.allowed_origins", "listen.trusted_proxies"];

/// An invalid setting, as one line that names the key.
#[derive(Debug, thiserror::Error)]
#[error("configuration: {0}")]
pub struct ConfigError(pub String);

impl ConfigError {
    /// The error of a value that is not valid: `key` as in the file, and the reason.
    #[must_use]
    pub fn key(key: &str, why: impl std::fmt::Display) -> Self {
        Self(format!("{key}: {why}"))
    }
}

/// Reads `file` (`None`: only defaults) and the environment of the process into `T`.
///
/// # Errors
/// A file that cannot be read or parsed, an unknown key, a value of the wrong type.
pub fn load<T: DeserializeOwned>(file: Option<&Path>) -> Result<T, ConfigError> {
    load_from(file, std::env::vars().collect())
}

/// The same as [`load`] with a given environment, so that tests need not change that of the process.
///
/// # Errors
/// The same as [`load`].
pub fn load_from<T: DeserializeOwned>(
    file: Option<&Path>,
    environment: std::collections::HashMap<String, String>,
) -> Result<T, ConfigError> {
    let mut builder = config::Config::builder();
    if let Some(path) = file {
        builder = builder.add_source(config::File::from(path).format(config::FileFormat::Toml));
    }
    // try_parsing converts "8" and "true" to numbers and booleans, as they are in the file.
    let source = config::Environment::with_prefix(ENV_PREFIX)
        .prefix_separator("__")
        .separator("__")
        .try_parsing(true)
        .list_separator(",")
        .source(Some(environment.into_iter().collect()));
    let environment = LISTS.iter().fold(source, |source, key| source.with_list_parse_key(key));
    let read = builder.add_source(environment).build().map_err(|e| ConfigError(e.to_string()))?;
    read.try_deserialize().map_err(|e| ConfigError(e.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;

    use super::*;
    use crate::config::{Log, LogFormat, Mysql, Shards};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    #[derive(Default)]
    struct Both {
        mysql: Mysql,
        shards: Shards,
        log: Log,
    }

    fn load(file: &str, env: &[(&str, &str)]) -> Result<Both, ConfigError> {
        let path = tempfile_with(file);
        let env: HashMap<_, _> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let read = load_from(Some(&path), env);
        std::fs::remove_file(path).unwrap();
        read
    }

    fn tempfile_with(text: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("im-config-{}.toml", uuid::Uuid::new_v4()));
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        let read = load(
            "[mysql]\nurl = \"mysql://file/im\"\n[log]\nformat = \"json\"",
            &[("IM__MYSQL__URL", "mysql://env/im"), ("IM__MYSQL__CONNECTIONS_MAX", "3"), ("OTHER", "x")],
        )
        .unwrap();
        assert_eq!(read.mysql.url.expose(), "mysql://env/im");
        assert_eq!(read.mysql.connections_max, 3);
        assert_eq!(read.log.format, LogFormat::Json);
        assert_eq!(read.shards.count, None);
    }

    #[test]
    fn a_wrong_key_or_value_is_named() {
        let unknown = load("[mysql]\nulr = \"x\"", &[]).unwrap_err().to_string();
        assert!(unknown.contains("ulr"), "{unknown}");
        let section = load("", &[("IM__MYSQ__URL", "x")]).unwrap_err().to_string();
        assert!(section.contains("mysq"), "{section}");
        let value = load("", &[("IM__SHARDS__COUNT", "many")]).unwrap_err().to_string();
        assert!(value.contains("shards.count"), "{value}");
        let file =
            load_from::<Both>(Some(Path::new("/nowhere.toml")), HashMap::new()).unwrap_err().to_string();
        assert!(file.contains("/nowhere.toml"), "{file}");
    }

    #[test]
    fn a_numeric_password_stays_text_and_is_never_shown() {
        let read = load("", &[("IM__MYSQL__URL", "12345")]).unwrap();
        assert_eq!(read.mysql.url.expose(), "12345");
        assert!(!format!("{:?}", read.mysql).contains("12345"));
    }
}
