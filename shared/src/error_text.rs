//! An error as one line.

/// An error with its sources on one line, without repetitions: many errors contain the text of their sources.
#[must_use]
pub fn error_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Layered {
        #[error("connecting: {0}")]
        Repeats(#[source] std::io::Error),
        #[error("starting")]
        Plain(#[source] Box<Layered>),
    }

    #[test]
    fn a_source_is_not_repeated() {
        let refused = std::io::Error::other("connection refused");
        let error = Layered::Plain(Box::new(Layered::Repeats(refused)));
        assert_eq!(error_line(&error), "starting: connecting: connection refused");
    }
}
