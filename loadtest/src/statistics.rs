//! Medians of figures that were measured several times.

use std::collections::BTreeMap;

/// 0 without values; of an even number of values, the mean of the middle two.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// The median of each name's values.
pub(crate) fn medians<'a>(maps: impl Iterator<Item = &'a BTreeMap<String, f64>>) -> BTreeMap<String, f64> {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, value) in maps.flatten() {
        values.entry(name).or_default().push(*value);
    }
    values.into_iter().map(|(name, values)| (name.to_owned(), median(values))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value_or_the_mean_of_two() {
        assert_eq!(median([]), 0.0);
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0]), 2.5);
        let one = BTreeMap::from([("a".to_owned(), 1.0), ("b".to_owned(), 5.0)]);
        let other = BTreeMap::from([("a".to_owned(), 3.0)]);
        assert_eq!(
            medians([&one, &other].into_iter()),
            BTreeMap::from([("a".to_owned(), 2.0), ("b".to_owned(), 5.0)])
        );
    }
}
