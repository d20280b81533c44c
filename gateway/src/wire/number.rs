//! Whole numbers, however they are written: `57`, `57.0`, `5.7e1`.
//!
//! Some languages know only floating point numbers and write every number with a fraction or an exponent. The value is
//! computed from the digits, never by floating point, so that no fraction is lost by rounding.

use std::fmt::Display;

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::value::RawValue;

/// The largest whole number that every client represents exactly: 2^53 - 1. The smallest one is its negative.
pub(crate) const WHOLE_MAX: i64 = (1 << 53) - 1;
/// The number of digits of [`WHOLE_MAX`].
const DIGITS_MAX: usize = 16;

/// The whole number that `text` writes, from -(2^53 - 1) to 2^53 - 1. `None` if it is something else: a fraction, a larger
/// number, no number.
pub(crate) fn whole(text: &str) -> Option<i64> {
    let number = text.parse().ok().or_else(|| from_decimal(text));
    number.filter(|number| (-WHOLE_MAX..=WHOLE_MAX).contains(number))
}

/// The value of a JSON number with a fraction or an exponent, if it is whole.
fn from_decimal(text: &str) -> Option<i64> {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, from_exponent(exponent)?),
        None => (text, 0),
    };
    let (before, after) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    let digits = || before.bytes().chain(after.bytes());
    if before.is_empty() || !digits().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let Some(first) = digits().position(|digit| digit != b'0') else { return Some(0) };
    let last = digits().enumerate().filter(|(_, digit)| *digit != b'0').last()?.0;
    // More digits: there is a fraction, or the number is too large.
    if last - first >= DIGITS_MAX {
        return None;
    }
    let significant = digits().take(last + 1).skip(first);
    let value = significant.fold(0_i64, |value, digit| value * 10 + i64::from(digit - b'0'));
    // The last of these digits counts ten to the power of this.
    let power = i64::try_from(before.len()).ok()? - 1 - i64::try_from(last).ok()?;
    let power = u32::try_from(power.saturating_add(exponent)).ok()?;
    let value = value.checked_mul(10_i64.checked_pow(power)?)?;
    Some(if is_negative { -value } else { value })
}

fn from_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let beyond = if text.starts_with('-') { i64::MIN } else { i64::MAX };
    Some(text.parse().unwrap_or(beyond))
}

/// Deserializes an optional whole number; `null` is `None`. For `#[serde(default, deserialize_with = "…")]` on a field of
/// a type that is deserialized from JSON text.
///
/// # Errors
/// It is not a whole number, or not of the type.
pub(crate) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64, Error: Display>,
{
    let raw = <&RawValue>::deserialize(deserializer)?;
    if raw.get() == "null" {
        return Ok(None);
    }
    let number = whole(raw.get()).ok_or_else(|| Error::custom("must be an integer below 2^53"))?;
    T::try_from(number).map(Some).map_err(|_| Error::custom(format!("{number} is out of range")))
}

/// The same as [`optional`], for the end of a period: a number beyond the limits is read as the limit.
///
/// # Errors
/// It is not a whole number.
pub(crate) fn optional_capped<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    // From 2^53 on, floating point numbers have no fraction.
    let beyond = |text: &str| text.parse::<f64>().ok().filter(|number| number.abs() > WHOLE_MAX as f64);
    let capped = |number: f64| if number < 0.0 { -WHOLE_MAX } else { WHOLE_MAX };
    match raw.get() {
        "null" => Ok(None),
        text => match whole(text).or_else(|| beyond(text).map(capped)) {
            Some(number) => Ok(Some(number)),
            None => Err(Error::custom("must be an integer")),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[test]
    fn whole_numbers_are_read_however_they_are_written() {
        for (text, number) in [
            ("0", 0),
            ("-0", 0),
            ("-0.0", 0),
            ("0e99999999999999999999", 0),
            ("0.000e-7", 0),
            ("57", 57),
            ("57.0", 57),
            ("57.000000000000000000000000", 57),
            ("1e2", 100),
            ("1E+2", 100),
            ("100e-2", 1),
            ("1.5e1", 15),
            ("0.57e2", 57),
            ("-2.0", -2),
            ("9007199254740991", WHOLE_MAX),
            ("9007199254740991.0", WHOLE_MAX),
            ("9.007199254740991e15", WHOLE_MAX),
            ("-9007199254740991.0", -WHOLE_MAX),
            ("1700000000000.0", 1_700_000_000_000),
        ] {
            assert_eq!(whole(text), Some(number), "{text}");
        }
        let long = format!("1{}e-60000", "0".repeat(60_000));
        assert_eq!(whole(&long), Some(1));
    }

    #[test]
    fn fractions_large_numbers_and_other_values_are_refused() {
        for text in [
            "1.5",
            "57.00000000000000000000001",
            "1e-1",
            "9007199254740992",
            "9007199254740991.4",
            "9007199254740992.0",
            "9.007199254740992e15",
            "-9007199254740992",
            "1e16",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "18446744073709551616",
            "",
            "-",
            ".5",
            "5.",
            "1e",
            "1e+",
            "e5",
            "1.2.3",
            "1e2e3",
            "0x10",
            "NaN",
            "Infinity",
            "1 ",
            "1_000",
            "\"57\"",
            "null",
            "true",
            "[1]",
            "٣",
        ] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    #[test]
    fn fields_of_bodies_are_read_by_the_same_rule() {
        #[derive(Debug, Deserialize)]
        struct Body {
            #[serde(default, deserialize_with = "optional")]
            ttl_s: Option<u16>,
        }
        let read = |text: &str| serde_json::from_str::<Body>(text).map(|body| body.ttl_s);
        assert_eq!(read(r#"{"ttl_s": 5.7e1}"#).unwrap(), Some(57));
        assert_eq!(read(r#"{"ttl_s": null}"#).unwrap(), None);
        assert_eq!(read("{}").unwrap(), None);
        for bad in ["1.5", "\"57\"", "true", "[]", "-1.0", "65536", "1e16"] {
            assert!(read(&format!(r#"{{"ttl_s":{bad}}}"#)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_beyond_the_limits_is_read_as_the_limit() {
        #[derive(Debug, Deserialize)]
        struct Body {
            #[serde(default, deserialize_with = "optional_capped")]
            until: Option<i64>,
        }
        let read = |text: &str| {
            serde_json::from_str::<Body>(&format!(r#"{{"until":{text}}}"#)).map(|body| body.until)
        };
        for (text, until) in [
            ("null", None),
            ("57.0", Some(57)),
            ("9007199254740991", Some(WHOLE_MAX)),
            ("9007199254740992", Some(WHOLE_MAX)),
            ("9223372036854775807", Some(WHOLE_MAX)),
            ("1.7976931348623157e308", Some(WHOLE_MAX)),
            ("-9223372036854775808", Some(-WHOLE_MAX)),
        ] {
            assert_eq!(read(text).unwrap(), until, "{text}");
        }
        for text in ["1.5", "9007199254740990.5", "\"57\"", "true", "[]"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_number_keeps_its_value_with_any_fraction_and_exponent(
            number in -WHOLE_MAX..=WHOLE_MAX, zeros in 0_usize..20, power in 0_u32..20,
        ) {
            let fraction = format!("{number}.{}", "0".repeat(zeros + 1));
            prop_assert_eq!(whole(&fraction), Some(number));
            let exponent = format!("{number}{}e-{power}", "0".repeat(power as usize));
            prop_assert_eq!(whole(&exponent), Some(number));
            if number != 0 {
                let part = format!("{number}.{}1", "0".repeat(zeros));
                prop_assert_eq!(whole(&part), None);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+0-9.eE]{0,12}") {
            if let (Some(number), Ok(float)) = (whole(&text), text.parse::<f64>()) {
                prop_assert!((float - number as f64).abs() <= 1.0, "{} {}", number, float);
            }
        }
    }
}
