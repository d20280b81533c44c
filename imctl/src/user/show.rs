//! `imctl user show`: what the stores know about a user.

use std::time::{Duration, Instant};

use serde::Serialize;
use shared::ids::UserId;
use shared::mysql::{Pool, inspection, profiles};
use shared::redis::inspection::Inspection;
use shared::redis::liveness_registry::{GATEWAY_EXPIRY, LivenessRegistry};
use shared::redis::presence::Presence;
use shared::redis::process_addresses::ProcessAddresses;

use crate::context::Context;
use crate::output::{Ending, Output};
use crate::text::{count, fields, or_dash, table, time, yes};

/// Longest search for the devices: Redis looks at all keys.
const DEVICES_TIMEOUT: Duration = Duration::from_secs(10);
/// Most blocked users that are listed.
const BLOCKS_MAX: u32 = 100;

/// What `imctl user show --json` prints.
#[derive(Debug, Serialize)]
struct User {
    user_id: String,
    /// Anything at all is known about the user.
    is_known: bool,
    nickname: String,
    /// The app's own JSON object.
    meta: serde_json::Value,
    profile_updated_at_ms: i64,
    /// `None`: it has no built-in account.
    account_created_at_ms: Option<i64>,
    private_chats: i64,
    groups: i64,
    /// Users whom it has blocked, at most 100.
    blocked: Vec<String>,
    revoked_before_ms: Option<i64>,
    /// The live gateways to which it is connected.
    gateways: Vec<Gateway>,
    /// Devices that named themselves and connected within a day. No store knows which of them are connected now, and where.
    devices: Vec<Device>,
    /// The search for devices ended in time.
    is_devices_complete: bool,
}

#[derive(Debug, Serialize)]
struct Gateway {
    id: String,
    address: Option<String>,
}

#[derive(Debug, Serialize)]
struct Device {
    device_id: String,
    connected_at_ms: u64,
}

/// Shows the user.
pub(crate) async fn run(context: &Context, id: &str, output: Output) -> anyhow::Result<Ending> {
    let user = UserId::parse(id)?;
    let pool = context.mysql().await?;
    let redis = context.redis().await?;
    let mut shown = from_mysql(&pool, &user).await?;
    shown.gateways = gateways(&redis, &user).await?;
    let devices = Inspection::new(redis).devices(&user, Instant::now() + DEVICES_TIMEOUT).await?;
    shown.is_devices_complete = devices.is_complete;
    let device = |(device_id, connected_at_ms)| Device { device_id, connected_at_ms };
    shown.devices = devices.found.into_iter().map(device).collect();
    shown.is_known = shown.is_known || !shown.gateways.is_empty() || !shown.devices.is_empty();
    output.show(&shown, text)?;
    Ok(if shown.is_known { Ending::Good } else { Ending::Finding })
}

async fn from_mysql(pool: &Pool, user: &UserId) -> anyhow::Result<User> {
    let found = profiles::find(pool, std::slice::from_ref(user)).await?;
    let is_known = !found.is_empty();
    let profile = found.into_iter().next().unwrap_or_else(|| profiles::Profile::unset(user));
    let (private_chats, groups) = inspection::conversation_counts(pool, user).await?;
    let blocked = inspection::blocked_by(pool, user, BLOCKS_MAX).await?;
    let revoked_before_ms = inspection::revoked_before_ms(pool, user).await?;
    Ok(User {
        user_id: user.as_str().to_owned(),
        is_known: is_known
            || private_chats + groups > 0
            || !blocked.is_empty()
            || revoked_before_ms.is_some(),
        nickname: profile.nickname,
        meta: serde_json::from_str(profile.meta.as_str()).unwrap_or_default(),
        profile_updated_at_ms: profile.updated_at,
        account_created_at_ms: inspection::account_created_at_ms(pool, user).await?,
        private_chats,
        groups,
        blocked,
        revoked_before_ms,
        gateways: Vec::new(),
        devices: Vec::new(),
        is_devices_complete: false,
    })
}

/// Entries of gateways that died stay in Redis for a day: only those of live ones count.
async fn gateways(redis: &shared::redis::Client, user: &UserId) -> anyhow::Result<Vec<Gateway>> {
    let live = LivenessRegistry::gateways(redis.clone(), GATEWAY_EXPIRY).live().await?;
    // The id is that of the writer; this one only reads.
    let recorded = Presence::new(redis.clone(), 0).gateways_of(std::slice::from_ref(user)).await?;
    let ids = recorded.into_iter().flatten().map(|gateway| format!("{gateway:016x}"));
    let ids: Vec<String> = ids.filter(|id| live.contains(id)).collect();
    let addresses = ProcessAddresses::new(redis.clone()).of(&ids).await?;
    Ok(ids.into_iter().zip(addresses).map(|(id, address)| Gateway { id, address }).collect())
}

fn text(user: &User) -> String {
    if !user.is_known {
        return format!("nothing is known about the user {}", user.user_id);
    }
    let updated = Some(user.profile_updated_at_ms).filter(|time| *time > 0).map(time);
    let gateways = count(user.gateways.len(), "gateway", "gateways");
    let mut parts = vec![fields(&[
        ("user", user.user_id.clone()),
        ("nickname", user.nickname.clone()),
        ("meta", user.meta.to_string()),
        ("profile changed", or_dash(updated)),
        ("built-in account since", or_dash(user.account_created_at_ms.map(time))),
        ("conversations", format!("{} private, {} groups", user.private_chats, user.groups)),
        ("blocked users", if user.blocked.is_empty() { "-".to_owned() } else { user.blocked.join(" ") }),
        ("tokens revoked up to", or_dash(user.revoked_before_ms.map(time))),
        ("connected", format!("{} ({gateways})", yes(!user.gateways.is_empty()))),
    ])];
    let rows =
        user.gateways.iter().map(|gateway| vec![gateway.id.clone(), or_dash(gateway.address.as_ref())]);
    parts.push(table(&["connected to gateway", "address"], rows));
    let rows = user.devices.iter().map(|device| {
        let at = i64::try_from(device.connected_at_ms).unwrap_or(i64::MAX);
        vec![device.device_id.clone(), time(at)]
    });
    parts.push(table(&["device of the last day", "newest connection since"], rows));
    if !user.is_devices_complete {
        parts.push("the search for devices took too long: there may be more".to_owned());
    }
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}
