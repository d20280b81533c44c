//! Migrations: run once, also if many processes start at the same moment.

use sqlx::migrate::{AppliedMigration, Migrate as _, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Connection as _, SqlStr};

use super::Pool;
use super::migration_lock::MigrationLock;

macro_rules! file {
    ($name:literal) => {
        ($name, include_str!(concat!("../../migrations/", $name)))
    };
}

/// The files of `shared/migrations`, in order.
///
/// A list instead of `sqlx::migrate!`: that macro is the only user of sqlx's `macros` feature, which compiles sqlx, its
/// TLS library and its runtime a second time for the compiler's own use. A test compares the list with the directory.
const FILES: &[(&str, &str)] = &[
    file!("0001_setting.sql"),
    file!("0002_conversation.sql"),
    file!("0003_timeline_message.sql"),
    file!("0004_chat_group.sql"),
    file!("0005_group_member.sql"),
    file!("0006_user_conversation_state.sql"),
    file!("0007_group_details.sql"),
    file!("0008_group_member_details.sql"),
    file!("0009_access_version.sql"),
    file!("0010_user_account.sql"),
    file!("0011_token_revocation.sql"),
    file!("0020_group_member_count.sql"),
    file!("0021_private_chat.sql"),
    file!("0022_private_chat_fill.sql"),
    file!("0023_user_block.sql"),
    file!("0024_access_change.sql"),
    file!("0025_timeline_recall.sql"),
    file!("0026_former_mute.sql"),
    file!("0027_history_floor.sql"),
    file!("0028_user_setting.sql"),
    file!("0029_group_invitation.sql"),
    file!("0030_user_quota.sql"),
    file!("0031_user_look_alike.sql"),
    file!("0032_account_look_alike_version.sql"),
    file!("0038_user_profile.sql"),
    file!("0039_group_notice.sql"),
    file!("0041_shard_process.sql"),
    file!("0042_shard_drained.sql"),
    file!("0050_timeline_extra.sql"),
    file!("0051_message_reaction.sql"),
    file!("0052_reaction_summary.sql"),
    file!("0053_message_pin.sql"),
    file!("0054_message_edit.sql"),
    file!("0055_message_mention.sql"),
    file!("0056_unchanged_entry.sql"),
    file!("0060_conversation_settings.sql"),
    file!("0061_cleared_conversation.sql"),
    file!("0062_access_change_user.sql"),
    file!("0065_system_entry.sql"),
    file!("0066_file_object.sql"),
    file!("0067_file.sql"),
    file!("0068_message_file.sql"),
    file!("0069_user_avatar.sql"),
    file!("0070_group_avatar.sql"),
    file!("0071_user_upload_quota.sql"),
    file!("0075_feed_shard.sql"),
    file!("0076_feed_change.sql"),
    file!("0077_feed_reader.sql"),
    file!("0078_webhook_endpoint.sql"),
    file!("0079_push_subscription.sql"),
    file!("0080_notification.sql"),
];

/// Builds the migration of `NNNN_description.sql`, as `sqlx::migrate!` does: the same version, description and checksum.
fn migration((name, sql): &(&str, &'static str)) -> Option<Migration> {
    let (version, description) = name.strip_suffix(".sql")?.split_once('_')?;
    let description = description.replace('_', " ");
    let (version, sql) = (version.parse().ok()?, SqlStr::from_static(sql));
    Some(Migration::new(version, description.into(), MigrationType::Simple, sql, false))
}

/// Where sqlx records what is applied.
const TABLE: &str = "_sqlx_migrations";
/// Brings the schema up to date.
///
/// # Errors
/// A failed statement, or a lock that another process holds for more than two minutes.
pub async fn migrate(pool: &Pool) -> Result<(), MigrateError> {
    let lock = MigrationLock::take(pool).await?;
    let mut connection = pool.acquire().await?.detach();
    let migrated = run(&mut connection).await;
    connection.close().await?;
    lock.release().await?;
    migrated
}

/// A migration of this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationState {
    /// Its number.
    pub version: i64,
    /// What it is for.
    pub description: String,
    /// Its statement.
    pub sql: &'static str,
    /// The schema has it.
    pub is_applied: bool,
}

/// All migrations of this version, and whether the schema has them. Changes nothing. A newer version may have added others.
///
/// # Errors
/// A failed statement; a migration was changed after it was applied, or has failed in the middle.
pub async fn migrations(pool: &Pool) -> Result<Vec<MigrationState>, MigrateError> {
    let mut connection = pool.acquire().await?.detach();
    let applied = applied(&mut connection).await;
    connection.close().await?;
    let applied = applied?;
    let mut states = Vec::with_capacity(FILES.len());
    for (migration, (_, sql)) in FILES.iter().filter_map(|file| Some((migration(file)?, file))) {
        let known = applied.iter().find(|applied| applied.version == migration.version);
        if known.is_some_and(|known| known.checksum != migration.checksum) {
            return Err(MigrateError::VersionMismatch(migration.version));
        }
        let (version, description) = (migration.version, migration.description.into_owned());
        states.push(MigrationState { version, description, sql, is_applied: known.is_some() });
    }
    Ok(states)
}

/// The migrations that the schema has; none if it is empty.
async fn applied(connection: &mut sqlx::MySqlConnection) -> Result<Vec<AppliedMigration>, MigrateError> {
    let table = "SELECT COUNT(*) FROM information_schema.tables \
                 WHERE table_schema = DATABASE() AND table_name = '_sqlx_migrations'";
    let tables: i64 = sqlx::query_scalar(table).fetch_one(&mut *connection).await?;
    if tables == 0 {
        return Ok(Vec::new());
    }
    if let Some(version) = connection.dirty_version(TABLE).await? {
        return Err(MigrateError::Dirty(version));
    }
    connection.list_applied_migrations(TABLE).await
}

async fn run(connection: &mut sqlx::MySqlConnection) -> Result<(), MigrateError> {
    let mut migrations = Migrator::with_migrations(FILES.iter().filter_map(migration).collect());
    migrations.set_locking(false);
    // A newer version may have migrated the schema already. Its migrations only add to this version's schema, and a
    // process of this version that restarts beside it must start.
    migrations.set_ignore_missing(true);
    migrations.run_direct(None, connection, false).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_directory_is_in_the_list_in_order() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        let mut on_disk: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        on_disk.sort_unstable();
        let listed: Vec<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(listed, on_disk);
    }

    #[test]
    fn every_name_has_a_version_and_versions_increase() {
        let versions: Vec<_> =
            FILES.iter().filter_map(migration).map(|migration| migration.version).collect();
        assert_eq!(versions.len(), FILES.len());
        assert!(versions.is_sorted_by(|a, b| a < b));
    }
}
