//! Reads single values of metrics in the text format of Prometheus.

use shared::shard::ShardId;

/// The metrics of one process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metrics<'t>(pub(super) &'t str);

impl<'t> Metrics<'t> {
    /// The lines of a metric: the text of the labels, and the value.
    fn lines(self, name: &'t str) -> impl Iterator<Item = (&'t str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once('}')?,
                None if rest.starts_with(' ') => ("", rest),
                None => return None,
            };
            Some((labels, value.trim().parse().ok()?))
        })
    }

    /// The value of a metric without labels.
    pub(super) fn value(self, name: &'t str) -> Option<f64> {
        self.lines(name).map(|(_, value)| value).next()
    }

    /// The same as a whole number; fractions are cut off.
    pub(super) fn number(self, name: &'t str) -> Option<u64> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts, checked to be positive"
        )]
        self.value(name).filter(|value| value.is_finite() && *value >= 0.0).map(|value| value as u64)
    }

    /// The value of a label of the first line of a metric.
    pub(super) fn label(self, name: &'t str, label: &str) -> Option<&'t str> {
        self.lines(name).find_map(|(labels, _)| label_in(labels, label))
    }

    /// The values of a metric by shard.
    pub(super) fn by_shard(self, name: &'t str) -> impl Iterator<Item = (ShardId, f64)> {
        self.lines(name).filter_map(|(labels, value)| Some((label_in(labels, "shard")?.parse().ok()?, value)))
    }
}

/// Labels of these metrics contain neither quotes nor commas.
fn label_in<'t>(labels: &'t str, label: &str) -> Option<&'t str> {
    labels.split(',').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name == label).then(|| value.trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_labels_are_read() {
        let metrics = Metrics(
            "# HELP a text\na 3\nab 4\na_b{shard=\"2\",x=\"y\"} 1\na_b{shard=\"10\"} 0\ninfo{role=\"worker\",version=\"0.1.0\"} 1\nbad NaN\n",
        );
        assert_eq!(
            (metrics.value("a"), metrics.number("ab"), metrics.number("bad")),
            (Some(3.0), Some(4), None)
        );
        assert_eq!(metrics.by_shard("a_b").collect::<Vec<_>>(), [(ShardId(2), 1.0), (ShardId(10), 0.0)]);
        assert_eq!(metrics.label("info", "version"), Some("0.1.0"));
        assert_eq!((metrics.value("none"), metrics.label("info", "none")), (None, None));
    }
}
