//! Reading a configuration from a file and the environment.

use std::collections::HashMap;
use std::path::Path;

use config::{Source as _, Value, ValueKind};
use serde::de::DeserializeOwned;

use super::known::{Owner, Program, is_section, similar};

/// The prefix of the environment variables that override keys: `IM__MYSQL__URL` is `mysql.url`.
const ENV_PREFIX: &str = "IM__";

/// Keys whose value is a list, separated by commas in an environment variable.
const LISTS: [&str; 7] = [
    "files.types",
    "hook.conversations",
    "hook.messages",
    "listen.allowed_origins",
    "listen.hosts",
    "listen.trusted_proxies",
    "outgoing.allowed_networks",
];

/// An invalid setting, as one line that names the key, and the variable or the file that it comes from.
#[derive(Debug, thiserror::Error)]
#[error("configuration: {place}: {why}")]
pub struct ConfigError {
    /// The key as in the file, if it is known; with the variable or the file that it comes from, if there is one.
    place: String,
    why: String,
}

impl ConfigError {
    /// The error of a value that is not valid: `key` as in the file, and the reason.
    #[must_use]
    pub fn key(key: &str, why: impl std::fmt::Display) -> Self {
        Self { place: key.to_owned(), why: why.to_string() }
    }

    fn unknown(place: &str, key: &str) -> Self {
        let why = match similar(key) {
            Some(similar) => format!("{key} is no setting; did you mean {similar}?"),
            None => format!("{key} is no setting of a gateway or a worker"),
        };
        Self::key(place, why)
    }

    /// The same error, with the place of its key.
    fn with_place(self, places: &Places) -> Self {
        match places.0.get(&self.place) {
            Some(place) => Self { place: format!("{place}: {}", self.place), ..self },
            None => self,
        }
    }

    fn from_library(error: config::ConfigError) -> Self {
        use config::ConfigError as Library;
        match error {
            Library::FileParse { uri: Some(file), cause } => {
                Self::key(&file, without_excerpt(&cause.to_string()))
            }
            Library::Type { unexpected, expected, key: Some(key), .. } => {
                Self::key(&key, format!("{unexpected} is not {expected}"))
            }
            Library::At { error, key: Some(key), .. } => Self::key(&key, error),
            other => Self::key("the file and the environment", other),
        }
    }
}

/// The sentences of a parser's error, without the line of the file, which may contain a secret.
fn without_excerpt(error: &str) -> String {
    let sentences = error.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains('|'));
    sentences.collect::<Vec<_>>().join(": ")
}

/// Where each given key comes from: an environment variable or a file.
#[derive(Debug, Default)]
struct Places(HashMap<String, String>);

/// Reads `file` (`None`: only defaults) and the environment of the process into `T`, and checks it. Settings that only the
/// other process has are ignored.
///
/// # Errors
/// A file that cannot be read or parsed, an unknown key, a value of the wrong type, or the error of `check`.
pub fn load<T: DeserializeOwned>(
    program: Program,
    file: Option<&Path>,
    check: impl FnOnce(T) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    load_and_check(program, file, std::env::vars().collect(), check)
}

/// The same as [`load`] with a given environment and without a check, so that tests need not change the environment of the
/// process.
///
/// # Errors
/// The same as [`load`].
pub fn load_from<T: DeserializeOwned>(
    program: Program,
    file: Option<&Path>,
    environment: HashMap<String, String>,
) -> Result<T, ConfigError> {
    load_and_check(program, file, environment, Ok)
}

fn load_and_check<T: DeserializeOwned>(
    program: Program,
    file: Option<&Path>,
    environment: HashMap<String, String>,
    check: impl FnOnce(T) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    let mut given = file.map(|path| from_file(program, path)).transpose()?.unwrap_or_default();
    given.extend(from_environment(program, environment)?);
    let place = |value: &Value| value.origin().map(ToOwned::to_owned);
    let places = given.iter().filter_map(|(key, value)| Some((key.clone(), place(value)?)));
    let places = Places(places.collect());
    let mut builder = config::Config::builder();
    for (key, value) in given {
        builder = builder.set_override(key, value).map_err(ConfigError::from_library)?;
    }
    let read = builder.build().and_then(config::Config::try_deserialize).map_err(ConfigError::from_library);
    read.and_then(check).map_err(|error| error.with_place(&places))
}

/// The values of the variables that `program` has.
fn from_environment(
    program: Program,
    environment: HashMap<String, String>,
) -> Result<HashMap<String, Value>, ConfigError> {
    let mut given = HashMap::new();
    let mut variables: Vec<_> = environment.into_iter().collect();
    variables.sort();
    for (variable, text) in variables {
        let upper = variable.to_uppercase();
        let Some(name) = upper.strip_prefix(ENV_PREFIX) else { continue };
        let key = name.to_lowercase().replace("__", ".");
        if is_section(&key) {
            let why = format!("{key} is a section: write {ENV_PREFIX}{name}__KEY");
            return Err(ConfigError::key(&variable, why));
        }
        match program.owner(&key) {
            Owner::This => {}
            Owner::Other => continue,
            Owner::Nobody => return Err(ConfigError::unknown(&variable, &key)),
        }
        // As text: the type of the setting decides how it is read, so that an id that looks like a number stays what it is.
        let value = if LISTS.contains(&key.as_str()) {
            ValueKind::Array(text.split(',').map(|text| Value::from(text.to_owned())).collect())
        } else {
            ValueKind::String(text)
        };
        given.insert(key, Value::new(Some(&variable), value));
    }
    Ok(given)
}

/// The values of the keys in a file that `program` has.
fn from_file(program: Program, path: &Path) -> Result<HashMap<String, Value>, ConfigError> {
    let file = config::File::from(path).format(config::FileFormat::Toml);
    let sections = file.collect().map_err(ConfigError::from_library)?;
    let shown = path.display().to_string();
    let mut given = HashMap::new();
    for (section, values) in sections {
        let values = match values.kind {
            ValueKind::Table(values) if is_section(&section) => values,
            ValueKind::Table(_) => {
                return Err(ConfigError::key(&shown, format!("[{section}] is no section")));
            }
            _ if is_section(&section) => {
                return Err(ConfigError::key(&shown, format!("{section} is a section: write [{section}]")));
            }
            _ => return Err(ConfigError::unknown(&shown, &section)),
        };
        for (name, value) in values {
            let key = format!("{section}.{name}");
            match program.owner(&key) {
                Owner::This => given.insert(key, Value::new(Some(&shown), value.kind)),
                Owner::Other => continue,
                Owner::Nobody => return Err(ConfigError::unknown(&shown, &key)),
            };
        }
    }
    Ok(given)
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
        let read = load_from(Program::Gateway, Some(&path), env);
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
    fn a_wrong_key_or_value_is_named_with_its_variable_or_file() {
        let refused = |file: &str, env: &[(&str, &str)]| load(file, env).unwrap_err().to_string();
        let names = |error: &str, parts: &[&str]| {
            for part in parts {
                assert!(error.contains(part), "{part} in {error}");
            }
            assert_eq!(error.lines().count(), 1, "{error}");
        };
        let file = ".toml";
        names(&refused("[mysql]\nulr = \"x\"", &[]), &[file, "mysql.ulr", "did you mean mysql.url?"]);
        names(&refused("[mysq]\nurl = \"x\"", &[]), &[file, "[mysq]"]);
        names(&refused("mysql = \"x\"", &[]), &[file, "write [mysql]"]);
        names(&refused("url = \"x\"", &[]), &[file, "url is no setting"]);
        names(&refused("[auth]\nmoed = \"jwt\"", &[]), &[file, "auth.moed", "auth.mode"]);
        names(&refused("[shards]\ncount = \"many\"", &[]), &[file, "shards.count"]);
        names(&refused("[log]\nformat = \"xml\"", &[]), &[file, "log.format"]);
        let unreadable = refused("[auth]\napi_key = secret", &[]);
        names(&unreadable, &[file, "line 2"]);
        assert!(!unreadable.contains("secret"), "{unreadable}");
        names(&refused("", &[("IM__MYSQ__URL", "x")]), &["IM__MYSQ__URL", "did you mean mysql.url?"]);
        names(&refused("", &[("IM__MYSQL", "x")]), &["IM__MYSQL", "IM__MYSQL__KEY"]);
        names(&refused("", &[("IM__COMMIT__X", "x")]), &["IM__COMMIT__X", "no setting"]);
        for (value, said) in
            [("many", "many"), ("1.5", "1.5"), ("-1", "-1"), ("", "\"\""), ("70000", "70000")]
        {
            let error = refused("", &[("IM__SHARDS__COUNT", value)]);
            names(&error, &["IM__SHARDS__COUNT: shards.count", said]);
        }
        names(&refused("", &[("IM__LOG__FORMAT", "xml")]), &["IM__LOG__FORMAT: log.format"]);
        let missing = load_from::<Both>(Program::Gateway, Some(Path::new("/nowhere.toml")), HashMap::new());
        names(&missing.unwrap_err().to_string(), &["/nowhere.toml"]);
    }

    #[test]
    fn settings_that_only_the_other_process_has_are_ignored() {
        let all = [
            ("IM__AUTH__MODE", "jwt"),
            ("IM__COMMIT__BATCH_MESSAGES_MAX", "5"),
            ("IM__DRAIN__GRACE_MS", "1"),
            ("IM__DRAIN__SPREAD_MS", "1"),
            ("IM__MYSQL__URL", "mysql://env/im"),
        ];
        let environment: HashMap<_, _> =
            all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Gateway {
            mysql: Mysql,
            #[expect(dead_code, reason = "only its presence counts")]
            auth: HashMap<String, String>,
            drain: HashMap<String, u32>,
        }
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Worker {
            mysql: Mysql,
            #[expect(dead_code, reason = "only its presence counts")]
            commit: HashMap<String, String>,
            drain: HashMap<String, u32>,
        }
        let file = tempfile_with("[commit]\nhole_timeout_ms = 1000\n[limits]\nconnections_max = 5\n");
        let gateway = load_from::<Gateway>(Program::Gateway, None, environment.clone()).unwrap();
        assert_eq!((gateway.mysql.url.expose(), gateway.drain.len()), ("mysql://env/im", 1));
        let worker = load_from::<Worker>(Program::Worker, None, environment).unwrap();
        assert_eq!((worker.mysql.url.expose(), worker.drain["grace_ms"]), ("mysql://env/im", 1));
        let in_files = load_from::<HashMap<String, HashMap<String, u32>>>;
        let gateway = in_files(Program::Gateway, Some(&file), HashMap::new()).unwrap();
        assert_eq!(gateway.keys().collect::<Vec<_>>(), ["limits"]);
        let worker = in_files(Program::Worker, Some(&file), HashMap::new()).unwrap();
        assert_eq!(worker.keys().collect::<Vec<_>>(), ["commit"]);
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn a_check_that_fails_names_the_variable_or_the_file_of_its_key() {
        let environment = || [("IM__LOG__FILTER".to_owned(), "x".to_owned())].into();
        let checked = |key: &'static str| {
            load_and_check::<Both>(Program::Worker, None, environment(), |_| {
                Err(ConfigError::key(key, "is bad"))
            })
            .unwrap_err()
            .to_string()
        };
        assert_eq!(checked("log.filter"), "configuration: IM__LOG__FILTER: log.filter: is bad");
        assert_eq!(checked("mysql.url"), "configuration: mysql.url: is bad");
    }

    #[test]
    fn a_value_of_the_environment_keeps_its_text() {
        for text in ["12345", "007", "1e5", "TRUE", " x "] {
            let read = load("", &[("IM__MYSQL__URL", text), ("IM__LOG__FILTER", text)]).unwrap();
            assert_eq!((read.mysql.url.expose(), read.log.filter.as_str()), (text, text));
            assert!(!format!("{:?}", read.mysql).contains(text));
        }
    }
}
