//! The features of this gateway, as clients may ask for them.

use crate::config::Config;
use crate::wire::api_error::ApiError;

/// A feature that may be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Profiles of users, and what groups show beside their names.
    Profiles,
}

impl Feature {
    /// In the order in which clients are told them.
    const ALL: [Self; 1] = [Self::Profiles];

    /// The name that clients know it by.
    fn name(self) -> &'static str {
        match self {
            Self::Profiles => "profiles",
        }
    }

    /// The key of the configuration that switches it on.
    fn setting(self) -> &'static str {
        match self {
            Self::Profiles => "profiles.enabled",
        }
    }

    fn is_on(self, config: &Config) -> bool {
        match self {
            Self::Profiles => config.profiles.enabled,
        }
    }
}

/// The features that are switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Features(Vec<Feature>);

impl Features {
    pub(crate) fn of(config: &Config) -> Self {
        Self(Feature::ALL.into_iter().filter(|feature| feature.is_on(config)).collect())
    }

    /// Their names. A client that finds a feature here may use its requests and fields.
    #[must_use]
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|feature| feature.name()).collect()
    }

    #[must_use]
    pub(crate) fn is_on(&self, feature: Feature) -> bool {
        self.0.contains(&feature)
    }

    /// Refuses requests of a feature that is switched off.
    ///
    /// # Errors
    /// 400 with the name of the setting.
    pub(crate) fn require(&self, feature: Feature) -> Result<(), ApiError> {
        if self.is_on(feature) {
            return Ok(());
        }
        let (name, setting) = (feature.name(), feature.setting());
        Err(ApiError::Malformed(format!(
            "{name} are switched off here: the gateway runs with {setting} = false"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_that_is_switched_off_is_not_listed_and_names_its_setting() {
        let mut config = Config::default();
        assert_eq!(Features::of(&config).names(), ["profiles"]);
        assert_eq!(Features::of(&config).require(Feature::Profiles), Ok(()));
        config.profiles.enabled = false;
        assert_eq!(Features::of(&config).names(), [""; 0]);
        let refused = Features::of(&config).require(Feature::Profiles).unwrap_err();
        assert_eq!(refused.code(), 400);
        assert!(refused.message().contains("profiles.enabled = false"), "{}", refused.message());
    }
}
