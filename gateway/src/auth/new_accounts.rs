//! New accounts: with the ids that the profile allows, none of which looks like that of another account.

use std::time::Duration;

use shared::backoff::Backoff;
use shared::ids::UserId;
use shared::mysql::look_alikes::{self, CreateError, NewAccount};
use shared::mysql::{Pool, accounts};
use shared::shutdown::Shutdown;

use crate::id_profile::{IdProfile, LOOK_ALIKE_VERSION, look_alike_keys};
use crate::wire::api_error::ApiError;
use crate::wire::retry_delay::RetryDelay;

/// Most steps of a registration that finds accounts without keys.
const STEPS_PER_CALL_MAX: usize = 4;
/// Pause between two steps of the background task, which leaves the database to others.
const STEP_PAUSE: Duration = Duration::from_millis(20);

/// Adds the keys of all accounts that have none, as after an upgrade. Ends when all have some.
pub(crate) async fn add_all_missing(pool: Pool, tasks: Shutdown) {
    let mut backoff = Backoff::dependency();
    let mut steps = 0_usize;
    loop {
        let pause = match look_alikes::add_missing(&pool, LOOK_ALIKE_VERSION, look_alike_keys).await {
            Ok(false) => break,
            Ok(true) => {
                backoff.reset();
                steps += 1;
                STEP_PAUSE
            }
            Err(error) => {
                let pause = backoff.next_delay();
                tracing::warn!(%error, "Cannot add the keys of look-alike account ids; retrying in {pause:?}");
                pause
            }
        };
        if !tasks.sleep(pause).await {
            return;
        }
    }
    if steps > 0 {
        tracing::info!("All accounts have the keys by which look-alike ids are found");
    }
}

/// Makes accounts, with the ids that the profile allows.
#[derive(Debug)]
pub(super) struct NewAccounts {
    pool: Pool,
    profile: IdProfile,
}

impl NewAccounts {
    /// Accounts in `pool`.
    pub(super) fn new(pool: Pool, profile: IdProfile) -> Self {
        Self { pool, profile }
    }

    /// Checks the id of a new account, apart from the ids that are taken.
    ///
    /// # Errors
    /// 400; 503 right after an upgrade, while many accounts have no keys.
    pub(super) async fn check(&self, user: &UserId) -> Result<(), ApiError> {
        self.profile.check_user(user).map_err(ApiError::malformed)?;
        if self.profile == IdProfile::Any {
            return Ok(());
        }
        // A gateway of an earlier version may have made a few accounts meanwhile.
        for _ in 0..STEPS_PER_CALL_MAX {
            let more = look_alikes::add_missing(&self.pool, LOOK_ALIKE_VERSION, look_alike_keys).await;
            if !more.map_err(|e| ApiError::database(&e))? {
                return Ok(());
            }
        }
        let message = "the ids of existing accounts are being read after an upgrade: try again";
        Err(ApiError::unavailable(message, RetryDelay::StoreUnavailable))
    }

    /// Makes an account.
    ///
    /// # Errors
    /// 409 if the id is taken or looks like one that is taken; 503.
    pub(super) async fn create(
        &self,
        user: &UserId,
        password_hash: &str,
        nickname: &str,
    ) -> Result<(), ApiError> {
        let created = match self.profile {
            IdProfile::Any => accounts::create(&self.pool, user, password_hash, nickname)
                .await
                .map_err(CreateError::Sql)
                .and_then(|created| created.then_some(()).ok_or(CreateError::Taken)),
            IdProfile::Safe => {
                let keys = &look_alike_keys(user.as_str());
                let version = LOOK_ALIKE_VERSION;
                let account = NewAccount { user, password_hash, nickname, keys, version };
                look_alikes::create(&self.pool, account).await
            }
        };
        created.map_err(|error| match error {
            CreateError::Taken => conflict("this user_id is taken: choose another one"),
            CreateError::LooksTaken => {
                conflict("this user_id looks like one that is taken: choose another one")
            }
            CreateError::Sql(error) => ApiError::database(&error),
        })
    }
}

fn conflict(message: &str) -> ApiError {
    ApiError::Conflict(message.to_owned())
}
