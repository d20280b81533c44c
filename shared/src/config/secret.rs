//! Values that are never printed.

use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::load::ConfigError;

/// A key or password. Its `Debug` shows only whether it is set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, to sign or to compare with.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is not set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The secret that is given either as `value` or in `file` (an empty path: not given). A trailing line end of the file is
    /// not part of the secret.
    ///
    /// # Errors
    /// Names `key`, or the key of the file (`key` with `_file`), and never shows the content.
    pub fn either(key: &str, value: Self, file: &Path) -> Result<Self, ConfigError> {
        if file.as_os_str().is_empty() {
            return Ok(value);
        }
        let file_key = format!("{key}_file");
        if !value.is_empty() {
            return Err(ConfigError::key(&file_key, format!("{key} is set as well: set one of them")));
        }
        let text = std::fs::read_to_string(file)
            .map_err(|error| ConfigError::key(&file_key, format!("{}: {error}", file.display())))?;
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            return Err(ConfigError::key(&file_key, format!("{} is empty", file.display())));
        }
        Ok(Self(secret.to_owned()))
    }

    /// Checks that it has at least `bytes_min` bytes.
    ///
    /// # Errors
    /// Names `key`.
    pub fn at_least(&self, key: &str, bytes_min: usize) -> Result<(), ConfigError> {
        if self.0.len() < bytes_min {
            return Err(ConfigError::key(key, format!("is shorter than {bytes_min} bytes")));
        }
        Ok(())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "(none)" } else { "(secret)" })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
                Ok(text.into())
            }

            // A number in a file may have lost digits, such as zeros at its beginning.
            fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
                Err(E::custom(NUMBER))
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Secret, E> {
                Err(E::custom(NUMBER))
            }

            fn visit_i128<E: Error>(self, _: i128) -> Result<Secret, E> {
                Err(E::custom(NUMBER))
            }

            fn visit_u128<E: Error>(self, _: u128) -> Result<Secret, E> {
                Err(E::custom(NUMBER))
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
                Err(E::custom(NUMBER))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

const NUMBER: &str = "a secret is text: write it in quotes";

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, Default)]
    #[serde(default)]
    struct Keys {
        api_key: Secret,
    }

    #[derive(Debug, serde::Deserialize, Default)]
    #[serde(default)]
    struct Settings {
        auth: Keys,
    }

    fn from_environment(value: &str) -> Result<Settings, ConfigError> {
        let environment = [("IM__AUTH__API_KEY".to_owned(), value.to_owned())];
        crate::config::load_from(crate::config::Program::Gateway, None, environment.into())
    }

    #[test]
    fn a_secret_is_kept_exactly_or_refused_and_never_shown() {
        for text in ["0x, =%\u{e9}", "00123", "12345678901234567890123456789012", "1e31", "true"] {
            let read = from_environment(text).unwrap();
            assert_eq!(read.auth.api_key.expose(), text);
            assert_eq!(format!("{:?}", read.auth), "Keys { api_key: (secret) }");
        }
        // Without quotes, a file has a number instead of a text.
        for number in [123_i64.into(), 1.5.into(), serde_json::Value::from(u64::MAX)] {
            let error = serde_json::from_value::<Keys>(serde_json::json!({ "api_key": number })).unwrap_err();
            assert!(error.to_string().contains("quotes"), "{error}");
        }
    }

    #[test]
    fn a_file_holds_it_alone_and_not_beside_a_value() {
        let path = std::env::temp_dir().join(format!("im-secret-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, "from a file\r\n").unwrap();
        let both = Secret::either("auth.key", "x".into(), &path).unwrap_err().to_string();
        let read = Secret::either("auth.key", Secret::default(), &path).unwrap();
        std::fs::write(&path, "\n").unwrap();
        let empty = Secret::either("auth.key", Secret::default(), &path).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read.expose(), "from a file");
        assert!(both.contains("auth.key_file") && empty.contains("auth.key_file"), "{both}; {empty}");
        let missing = Secret::either("auth.key", Secret::default(), &path).unwrap_err().to_string();
        assert!(missing.contains("auth.key_file"), "{missing}");
        assert_eq!(Secret::either("auth.key", "x".into(), Path::new("")).unwrap().expose(), "x");
    }
}
