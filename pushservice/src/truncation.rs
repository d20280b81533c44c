//! Shortening a notification to the payload limit of its push service.

use crate::message::Notification;

/// Ends a text that was cut.
const ELLIPSIS: &str = "\u{2026}";

/// `notification` with at most `bytes_max` bytes by `size`: the body is cut first, then the title, both at the end of a
/// character. `None`: what cannot be cut is too long.
pub(crate) fn fitted(
    notification: &Notification,
    bytes_max: usize,
    size: impl Fn(&Notification) -> usize,
) -> Option<Notification> {
    let mut fitted = notification.clone();
    if size(&fitted) <= bytes_max {
        return Some(fitted);
    }
    if let Some(body) = fitted.body.take() {
        let with_body = |text: String| Notification { body: Some(text), ..fitted.clone() };
        if let Some(text) = longest(&body, |text| size(&with_body(text.to_owned())) <= bytes_max) {
            return Some(with_body(text));
        }
    }
    if size(&fitted) <= bytes_max {
        return Some(fitted);
    }
    let title = std::mem::take(&mut fitted.title);
    let with_title = |text: String| Notification { title: text, ..fitted.clone() };
    longest(&title, |text| size(&with_title(text.to_owned())) <= bytes_max).map(with_title)
}

/// The longest beginning of `text`, of at least one character, that fits with an ellipsis behind it.
fn longest(text: &str, fits: impl Fn(&str) -> bool) -> Option<String> {
    let cut = |end: usize| format!("{}{ELLIPSIS}", text[..end].trim_end());
    // A longer beginning never has fewer bytes, so that a binary search finds the longest one.
    let ends: Vec<usize> = text.char_indices().map(|(start, _)| start).skip(1).collect();
    let count = ends.partition_point(|end| fits(&cut(*end)));
    count.checked_sub(1).map(|last| cut(ends[last]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Map;

    use super::*;
    use crate::collapse_key::CollapseKey;
    use crate::message::Urgency;

    fn notification(title: &str, body: Option<&str>) -> Notification {
        Notification {
            title: title.to_owned(),
            body: body.map(ToOwned::to_owned),
            data: Map::new(),
            collapse_key: CollapseKey::of("x"),
            badge: None,
            urgency: Urgency::High,
            quiet: false,
            ttl: std::time::Duration::from_secs(60),
        }
    }

    fn size(notification: &Notification) -> usize {
        serde_json::json!([notification.title, notification.body]).to_string().len()
    }

    #[test]
    fn the_body_is_cut_before_the_title() {
        let long = notification("Alice", Some("one two three four"));
        assert_eq!(fitted(&long, 100, size), Some(long.clone()));
        let cut = fitted(&long, 23, size).unwrap();
        assert_eq!((cut.title.as_str(), cut.body.as_deref()), ("Alice", Some("one two\u{2026}")));
        let cut = fitted(&long, 14, size).unwrap();
        assert_eq!((cut.title.as_str(), cut.body.as_deref()), ("Alice", None));
        let cut = fitted(&long, 13, size).unwrap();
        assert_eq!((cut.title.as_str(), cut.body.as_deref()), ("A\u{2026}", None));
        assert_eq!(fitted(&long, 10, size), None);
    }

    proptest! {
        #[test]
        fn a_cut_text_is_a_beginning_of_whole_characters(body in "\\PC{0,300}", bytes_max in 12usize..400) {
            let whole = notification("", Some(&body));
            let cut = fitted(&whole, bytes_max, size).unwrap();
            prop_assert!(size(&cut) <= bytes_max);
            match cut.body {
                Some(text) if text != body => {
                    let beginning = text.strip_suffix(ELLIPSIS).unwrap();
                    prop_assert!(body.starts_with(beginning));
                }
                Some(_) => {}
                None => prop_assert!(size(&whole) > bytes_max),
            }
        }
    }
}
