//! The profile of new ids: which of the ids that the protocol allows a new account or group may have.
//!
//! Ids are compared byte for byte, and people read them. The profile refuses an id that has invisible characters, that is
//! one of several spellings of the same text, or that mixes scripts to look like another id. It is the profile
//! UsernameCasePreserved of PRECIS (RFC 8265) with the restriction level "highly restrictive" of Unicode Technical
//! Standard 39, and of ASCII punctuation only what stands in an address as it is. Ids that exist already, and ids of tokens
//! of other issuers, are not checked. See docs/decisions/0012-profile-of-new-ids.md.

use precis_profiles::UsernameCasePreserved;
use precis_profiles::precis_core::Error as PrecisError;
use precis_profiles::precis_core::profile::PrecisFastInvocation as _;
use serde::Deserialize;
use shared::conversation::Conversation;
use shared::ids::UserId;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use unicode_security::confusable_detection::skeleton;
use unicode_security::{GeneralSecurityProfile as _, RestrictionLevel, RestrictionLevelDetection as _};

/// ASCII punctuation that a new id may have between letters and digits. None of it has a meaning in the path of an address.
const PUNCTUATION: &str = "-._@+:";
/// Most combining marks on one letter (UTS 39, section 5.4).
const MARKS_MAX: usize = 4;
/// Before the name in the id of a group.
const GROUP: &str = "group_";
/// Longest key of [`look_alike_keys`], in characters, which the table's column has. A longer one is cut.
const KEY_CHARS_MAX: usize = 255;

/// Changes whenever [`look_alike_keys`] returns other keys for some id, as with a new version of the Unicode tables. The
/// keys of all accounts are then added again.
pub(crate) const LOOK_ALIKE_VERSION: u16 = 1;

/// The value of `auth.id_profile` and `groups.id_profile`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdProfile {
    /// New ids keep the profile.
    #[default]
    Safe,
    /// A new id is any id that the protocol allows.
    Any,
}

fn code_point(c: &char) -> u32 {
    u32::from(*c)
}

/// The reason why a new id is refused. Its `Display` is meant for the client that sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsuitable {
    /// It has a character that new ids do not have.
    #[error(
        "{0} contains {1:?} (U+{code:04X}), which new ids do not have: send letters and digits, and between them - . _ @ + :",
        code = code_point(.1)
    )]
    Character(&'static str, char),
    /// It has punctuation or a mark at an end.
    #[error("{0} must begin and end with a letter or a digit")]
    End(&'static str),
    /// It is another spelling of the canonical form.
    #[error("{0} is not in its canonical form: send {1:?}")]
    NotCanonical(&'static str, String),
    /// It has letters of several scripts, as look-alikes of other ids have.
    #[error("{0} mixes letters of several scripts: send letters of one script")]
    MixedScripts(&'static str),
    /// Its characters would be shown in another order than they are sent.
    #[error(
        "{0} mixes directions of writing: send letters of one direction, and no digit first beside letters from right to left"
    )]
    MixedDirections(&'static str),
    /// It has too many marks on one letter.
    #[error("{0} has more than 4 combining marks on one letter")]
    Marks(&'static str),
}

impl IdProfile {
    /// Checks the id of a new account.
    ///
    /// # Errors
    /// [`Unsuitable`]
    pub(crate) fn check_user(self, user: &UserId) -> Result<(), Unsuitable> {
        self.check("user_id", user.as_str())
    }

    /// Checks the id of a new group: what follows `group_`.
    ///
    /// # Errors
    /// [`Unsuitable`]
    pub(crate) fn check_group(self, group: &Conversation) -> Result<(), Unsuitable> {
        let name = group.key().strip_prefix(GROUP).unwrap_or_default();
        self.check("conversation_id", name).map_err(|why| match why {
            Unsuitable::NotCanonical(what, name) => Unsuitable::NotCanonical(what, format!("{GROUP}{name}")),
            why => why,
        })
    }

    fn check(self, what: &'static str, id: &str) -> Result<(), Unsuitable> {
        match self {
            Self::Safe => check(what, id),
            Self::Any => Ok(()),
        }
    }
}

fn check(what: &'static str, id: &str) -> Result<(), Unsuitable> {
    let is_allowed = |c: char| {
        if c.is_ascii() {
            c.is_ascii_alphanumeric() || PUNCTUATION.contains(c)
        } else {
            c.identifier_allowed()
        }
    };
    let composed: String = id.nfc().collect();
    let canonical = UsernameCasePreserved::enforce(composed.as_str()).map_err(|error| match error {
        PrecisError::BadCodepoint(at) => {
            Unsuitable::Character(what, char::from_u32(at.cp).unwrap_or(char::REPLACEMENT_CHARACTER))
        }
        // Rules about neighbors of a character fail without its name where there are none.
        PrecisError::Invalid | PrecisError::Unexpected(_) => match composed.chars().find(|c| !is_allowed(*c))
        {
            Some(c) => Unsuitable::Character(what, c),
            None => Unsuitable::MixedDirections(what),
        },
    })?;
    if let Some(c) = canonical.chars().find(|c| !is_allowed(*c)) {
        return Err(Unsuitable::Character(what, c));
    }
    let is_letter = |c: char| c.is_alphanumeric() && !is_combining_mark(c);
    let begins = canonical.chars().next().is_some_and(is_letter);
    if !begins || !canonical.chars().last().is_some_and(|c| is_letter(c) || is_combining_mark(c)) {
        return Err(Unsuitable::End(what));
    }
    let mut marks = 0;
    for c in canonical.chars() {
        marks = if is_combining_mark(c) { marks + 1 } else { 0 };
        if marks > MARKS_MAX {
            return Err(Unsuitable::Marks(what));
        }
    }
    // Of the punctuation above, the library knows some as no part of identifiers.
    let letters: String = canonical.chars().filter(|c| !PUNCTUATION.contains(*c)).collect();
    if !letters.check_restriction_level(RestrictionLevel::HighlyRestrictive) {
        return Err(Unsuitable::MixedScripts(what));
    }
    if canonical != id {
        return Err(Unsuitable::NotCanonical(what, canonical.into_owned()));
    }
    Ok(())
}

/// The keys of an id, of which two ids share one if people may take them for the same: both look the same in some font
/// (UTS 39, section 4), or differ in case only. One or two keys, in order.
///
/// Two keys, since `I` looks like `l` and is the capital of `i`: `paypaI` shares a key with `paypal`, and `ALICE` with
/// `alice`.
pub(crate) fn look_alike_keys(id: &str) -> Vec<String> {
    let key = |text: &str| -> String {
        let skeleton: String = skeleton(text).collect();
        lower_case(&skeleton).chars().take(KEY_CHARS_MAX).collect()
    };
    let mut keys = vec![key(id), key(&lower_case(id))];
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn lower_case(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_security::UNICODE_VERSION;

    use super::*;

    fn refused(id: &str) -> String {
        match check("user_id", id) {
            Ok(()) => panic!("{id:?} is accepted"),
            Err(why) => why.to_string(),
        }
    }

    #[test]
    fn usual_ids_of_all_languages_are_accepted() {
        for id in [
            "a",
            "7",
            "alice",
            "Alice",
            "user-1_b",
            "ann@example.com",
            "ann+work@example.com",
            "tenant:ann",
            "0190b7e4-6f3a-7c1d-9c7e-2b1f7f3a0001",
            "zoë",
            "straße",
            "łukasz",
            "王芳",
            "田中さん",
            "user田中",
            "김철수",
            "राम",
            "हिन्दी",
            "ผู้ใช้",
            "Иван",
            "Νίκος",
            "שלום",
            "مريم",
            "محمد12",
            "நண்பர்",
        ] {
            assert_eq!(check("user_id", id), Ok(()), "{id:?}");
        }
    }

    #[test]
    fn characters_that_are_not_seen_or_mean_something_else_are_refused_by_name() {
        for c in [
            '\u{200b}',
            '\u{200d}',
            '\u{200c}',
            '\u{feff}',
            '\u{ad}',
            '\u{202e}',
            '\u{200e}',
            '\u{200f}',
            '\u{2066}',
            '\u{2069}',
            '\u{61c}',
            '\u{2060}',
            '\u{34f}',
            '\u{180e}',
            '\u{115f}',
            '\u{3164}',
            '\u{e0041}',
            '\u{fe0f}',
            '\u{378}',
            '\u{e000}',
            '\u{fffd}',
            '\u{ffff}',
            '😀',
            '\u{fb01}',
            '²',
            'ⅳ',
            '𝐚',
            '–',
            '’',
            '/',
            '\\',
            '%',
            '?',
            '#',
            '&',
            ';',
            ',',
            '*',
            '~',
            '|',
            '<',
            '"',
            '\'',
            '$',
            '!',
            '(',
            '[',
            '=',
            '^',
            '`',
        ] {
            for id in [format!("al{c}ice"), format!("{c}alice"), format!("alice{c}"), c.to_string()] {
                let why = refused(&id);
                assert!(why.contains(&format!("U+{:04X}", u32::from(c))), "{id:?}: {why}");
            }
        }
    }

    #[test]
    fn an_id_has_a_letter_or_digit_at_both_ends() {
        for id in [
            ".", "..", "...", "-", "_", "@", "+", ":", ".a", "a.", "-a", "a-", "_a", "a_", "\u{301}",
            "\u{301}a",
        ] {
            assert_eq!(check("user_id", id), Err(Unsuitable::End("user_id")), "{id:?}");
        }
        assert_eq!(check("user_id", "ab\u{300}"), Ok(()), "a letter with a mark");
        assert_eq!(
            check("user_id", "q\u{300}\u{301}\u{302}\u{303}\u{304}"),
            Err(Unsuitable::Marks("user_id"))
        );
    }

    #[test]
    fn another_spelling_is_refused_with_the_canonical_one() {
        for (id, canonical) in [
            ("e\u{301}lan", "élan"),
            ("ａｌｉｃｅ", "alice"),
            ("\u{212b}sa", "Åsa"),
            ("\u{ac00}\u{11a8}", "각"),
        ] {
            let expected = Unsuitable::NotCanonical("user_id", canonical.to_owned());
            assert_eq!(check("user_id", id), Err(expected), "{id:?}");
            assert_eq!(check("user_id", canonical), Ok(()));
        }
        assert!(refused("ａ，ｂ").contains("U+002C"), "the canonical form is no id either");
    }

    #[test]
    fn scripts_and_directions_are_not_mixed() {
        for id in
            ["\u{430}lice", "\u{a4ee}lice", "αlice", "ali\u{441}e", "userराम", "user\u{663}", "p\u{430}ypal"]
        {
            let why = refused(id);
            assert!(
                why.contains("scripts") || why.contains("U+") || why.contains("directions"),
                "{id:?}: {why}"
            );
        }
        assert_eq!(check("user_id", "\u{430}lice"), Err(Unsuitable::MixedScripts("user_id")));
        for id in ["שלום-a", "aשלום", "1שלום"] {
            let why = refused(id);
            assert!(why.contains("directions") || why.contains("scripts"), "{id:?}: {why}");
        }
    }

    #[test]
    fn the_name_of_a_group_keeps_the_profile_and_any_switches_it_off() {
        let group = |id: &str| Conversation::from_key(id).unwrap();
        assert_eq!(IdProfile::Safe.check_group(&group("group_team-1")), Ok(()));
        let spelling = IdProfile::Safe.check_group(&group("group_e\u{301}"));
        let canonical = "group_é".to_owned();
        assert_eq!(spelling, Err(Unsuitable::NotCanonical("conversation_id", canonical)));
        for id in ["group_.", "group_..", "group_-", "group_a/b", "group_a,b", "group_a\u{200b}"] {
            let why = IdProfile::Safe.check_group(&group(id)).unwrap_err().to_string();
            assert!(why.starts_with("conversation_id"), "{why}");
            assert_eq!(IdProfile::Any.check_group(&group(id)), Ok(()));
        }
        assert_eq!(IdProfile::Any.check_user(&UserId::parse("..").unwrap()), Ok(()));
    }

    fn look_alike(one: &str, other: &str) -> bool {
        let others = look_alike_keys(other);
        look_alike_keys(one).iter().any(|key| others.contains(key))
    }

    #[test]
    fn look_alikes_share_a_key() {
        for (one, other) in [
            ("alice", "Alice"),
            ("alice", "ALICE"),
            ("alice", "\u{430}lice"),
            ("alice", "\u{a4ee}lice"),
            ("alice", "al\u{200b}ice"),
            ("alice", "alice\u{feff}"),
            ("alice", "al\u{ad}ice"),
            ("alice", "\u{430}\u{4cf}\u{456}\u{441}\u{435}"),
            ("paypal", "paypaI"),
            ("paypal", "paypa1"),
            ("paypal", "PAYPAL"),
            ("scope", "\u{455}\u{441}\u{43e}\u{440}\u{435}"),
            ("user0", "userO"),
            ("mary", "rnary"),
            ("e\u{301}lan", "élan"),
        ] {
            assert!(look_alike(one, other) && look_alike(other, one), "{one:?} {other:?}");
        }
        for (one, other) in [
            ("alice", "alicia"),
            ("ali", "all"),
            ("user1", "user2"),
            ("bob", "rob"),
            ("mila", "mlla"),
            ("王", "玉"),
        ] {
            assert!(!look_alike(one, other), "{one:?} {other:?}");
        }
    }

    /// New tables change the keys of some ids: raise [`LOOK_ALIKE_VERSION`] with this number.
    #[test]
    fn the_version_of_the_keys_belongs_to_the_version_of_the_tables() {
        assert_eq!((UNICODE_VERSION, LOOK_ALIKE_VERSION), ((18, 0, 0), 1));
    }

    proptest! {
        #[test]
        fn any_text_is_checked_and_accepted_ids_need_no_escape_in_a_path(
            id in "[a-zA-Z0-9\\-._@+:]{1,20}|\\PC{1,64}|[\u{0}-\u{10ffff}]{1,64}"
        ) {
            let keys = look_alike_keys(&id);
            prop_assert!((1..=2).contains(&keys.len()) && keys.iter().all(|key| key.chars().count() <= 255));
            if check("user_id", &id).is_ok() {
                prop_assert!(UserId::parse(&id).is_ok());
                let ascii: String = id.chars().filter(char::is_ascii).collect();
                prop_assert!(ascii.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._@+:".contains(&byte)));
                prop_assert!(id != "." && id != "..");
            }
        }
    }
}
