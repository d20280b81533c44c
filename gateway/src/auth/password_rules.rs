//! Which passwords an account may have.

use shared::ids::UserId;
use zxcvbn::matching::patterns::MatchPattern;

use crate::wire::api_error::ApiError;

/// Longest password in bytes; a longer one would only cost hashing time.
const BYTES_MAX: usize = 256;
/// A password that is one word, name, date, sequence or row of keys is common if it is among this many first guesses.
const COMMON_GUESSES_MAX: u64 = 1_000_000;

/// The settings for new passwords.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PasswordRules {
    /// Shortest password, in characters.
    pub(crate) chars_min: usize,
    /// Whether common passwords are refused.
    pub(crate) refuse_common: bool,
}

impl PasswordRules {
    /// Checks the length of a new password.
    ///
    /// # Errors
    /// 400
    pub(crate) fn check_length(self, password: &str) -> Result<(), ApiError> {
        if password.chars().count() < self.chars_min {
            let min = self.chars_min;
            return Err(ApiError::Malformed(format!(
                "password is too short: send at least {min} characters"
            )));
        }
        check_length(password)
    }

    /// Refuses a new password that is guessed first. Takes milliseconds of processor time.
    ///
    /// # Errors
    /// 400
    pub(crate) fn check_common(self, password: &str, user: &UserId) -> Result<(), ApiError> {
        if self.refuse_common && is_common(password, user) {
            return Err(ApiError::malformed(
                "password is easy to guess: it is the user_id, a common password, a single word or name, a date, \
                 or a sequence. Choose one with several words, or with at least 12 random characters",
            ));
        }
        Ok(())
    }
}

/// Refuses passwords that are too long to be hashed.
///
/// # Errors
/// 400
pub(crate) fn check_length(password: &str) -> Result<(), ApiError> {
    if password.len() > BYTES_MAX {
        return Err(ApiError::malformed("password is longer than 256 bytes"));
    }
    Ok(())
}

/// Whether the password as a whole is one thing that is guessed early. Upper case, substitutions (`p@ssw0rd`) and the
/// reverse order are variations of the same thing. A password of several parts is not common, whatever the parts are.
fn is_common(password: &str, user: &UserId) -> bool {
    if password.to_lowercase() == user.as_str().to_lowercase() {
        return true;
    }
    let estimate = zxcvbn::zxcvbn(password, &[user.as_str()]);
    match estimate.sequence() {
        [one] => !matches!(one.pattern, MatchPattern::BruteForce) && estimate.guesses() <= COMMON_GUESSES_MAX,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: PasswordRules = PasswordRules { chars_min: 8, refuse_common: true };

    fn refused(password: &str) -> bool {
        RULES.check_common(password, &UserId::parse("alice-1970").unwrap()).is_err()
    }

    #[test]
    fn common_passwords_are_refused_in_any_spelling() {
        for common in [
            "password",
            "PASSWORD",
            "Password1",
            "p@ssw0rd",
            "12345678",
            "qwertyuiop",
            "1q2w3e4r",
            "iloveyou",
            "football",
            "superman",
            "trustno1",
            "drowssap",
            "aaaaaaaa",
            "abcdefgh",
            "abcabcabc",
            "passwordpassword",
            "1970-01-01",
            "alice-1970",
            "Alice-1970",
            "0791-ecila",
        ] {
            assert!(refused(common), "{common}");
        }
    }

    #[test]
    fn other_passwords_are_taken() {
        for other in [
            "correct horse",
            "another one",
            "wrong horse",
            "alice loves bob",
            "kT9#vq2L",
            "x7Gq!m2w",
            "la vache qui rit",
            "пароль от почты",
            "正确的马电池订书钉",
            "3f0c81d2a7b6e594",
        ] {
            assert!(!refused(other), "{other}");
        }
        let allowed = PasswordRules { refuse_common: false, ..RULES };
        assert!(allowed.check_common("password", &UserId::parse("alice").unwrap()).is_ok());
    }

    #[test]
    fn a_long_password_is_checked_quickly() {
        for password in ["a@".repeat(128), "4".repeat(256), "pa55w0rd!".repeat(28), "é".repeat(128)] {
            let begun = std::time::Instant::now();
            RULES.check_common(&password, &UserId::parse(&"a4@".repeat(20)).unwrap()).ok();
            assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}: {password}", begun.elapsed());
        }
    }

    #[test]
    fn lengths_are_limited_in_characters_and_bytes() {
        assert!(RULES.check_length("1234567").is_err());
        assert!(RULES.check_length("äöüäöüäö").is_ok());
        assert!(RULES.check_length(&"x".repeat(256)).is_ok());
        assert!(RULES.check_length(&"x".repeat(257)).is_err());
    }
}
