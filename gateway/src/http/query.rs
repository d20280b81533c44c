//! The query string of a request.

use std::borrow::Cow;
use std::convert::Infallible;

use warp::Filter;

/// The query string as it is sent; empty without one.
pub(super) fn text() -> impl Filter<Extract = (String,), Error = Infallible> + Clone {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

/// The decoded parameter `name`; the first one of that name.
pub(super) fn parameter<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
}

/// The decoded parameters of that name.
pub(super) fn parameters<'q>(query: &'q str, name: &'static str) -> impl Iterator<Item = Cow<'q, str>> {
    form_urlencoded::parse(query.as_bytes()).filter(move |(key, _)| key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_parameter_of_a_name_counts() {
        let query = "user_id=al%2Fice&user_id=bob&empty=&a+b=c+d&flag";
        assert_eq!(parameter(query, "user_id").as_deref(), Some("al/ice"));
        assert_eq!(parameter(query, "empty").as_deref(), Some(""));
        assert_eq!(parameter(query, "a b").as_deref(), Some("c d"));
        assert_eq!(parameter(query, "flag").as_deref(), Some(""));
        assert_eq!(parameter(query, "token"), None);
        assert_eq!(parameter("", "token"), None);
        assert_eq!(parameters("a=1&b=2&a=3%2C4", "a").collect::<Vec<_>>(), ["1", "3,4"]);
    }
}
