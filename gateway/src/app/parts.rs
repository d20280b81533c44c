//! Builds the parts of a gateway and starts their tasks.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use shared::amqp::PolicyWatch;
use shared::config::ConfigError;
use shared::health::Health;
use shared::ids::UserId;
use shared::live::Live;
use shared::mysql::groups::GroupPolicy;
use shared::redis::device_ranks::DeviceRanks;
use shared::redis::inbox::Inboxes;
use shared::redis::liveness_registry::{GATEWAY_EXPIRY, LivenessRegistry};
use shared::redis::presence::Presence;
use shared::redis::process_addresses::ProcessAddresses;
use shared::redis::sequence::Sequence;
use shared::shard_follower::ShardFollower;
use shared::shutdown::Shutdown;

use super::feed_parts::FeedParts;
use super::readiness::{watch_mysql, watch_redis};
use super::stores::Stores;
use crate::announce::{Announcer, announcer};
use crate::auth::revocations::{Revocations, Revoked};
use crate::auth::token::Tokens;
use crate::budget::{BudgetSettings, Budgets};
use crate::config::{self, Config};
use crate::devices::Devices;
use crate::features::Features;
use crate::files::Files;
use crate::hook::Hook;
use crate::hub::Hub;
use crate::membership::{
    Barriers, InboxUpdates, LiveGateways, Memberships, OpenGroups, QuotaSettings, Quotas, follow_change_log,
};
use crate::presence::{Online, online};
use crate::processes::Processes;
use crate::push::fanout::{EventTargets, Fanout};
use crate::push::listener::Listener;
use crate::rates::{Rate, Rates};
use crate::read::{ReadDeps, ReadSettings, Reads};
use crate::send::{InFlight, Numbering, PipelineContext, Pipelines, Sends};
use crate::typing::Typing;
use crate::views::Views;
use crate::watches::{WatchDeps, Watches};
use crate::{connection, http};

/// The shortest time to wait for the push queue, which takes a moment even if all stores are available.
const BIND_TIMEOUT_MIN: Duration = Duration::from_secs(5);

/// What every part is built from.
pub(super) struct Builder {
    pub(super) gateway: u64,
    pub(super) commit: &'static str,
    /// As it was at the start.
    pub(super) config: Arc<Config>,
    /// As it is at present.
    pub(super) live: Arc<Live<Config>>,
    pub(super) stores: Stores,
    pub(super) hub: Arc<Hub>,
    pub(super) budgets: Arc<Budgets>,
    pub(super) health: Health,
    /// Stops the tasks of the parts, after the last connection has ended.
    pub(super) tasks: Shutdown,
}

/// Membership, as other parts use it.
pub(super) struct Groups {
    pub(super) memberships: Arc<Memberships>,
    pub(super) policy: GroupPolicy,
    pub(super) inbox_updates: InboxUpdates,
    pub(super) quotas: Arc<Quotas>,
    pub(super) barriers: Arc<Barriers>,
    pub(super) live: Arc<LiveGateways>,
    pub(super) inboxes: Inboxes,
}

impl Builder {
    /// Builds all parts, and starts their tasks. Returns what HTTP calls and connections use, when the gateway receives
    /// the events of others. `listening` stops connections and calls.
    ///
    /// # Errors
    /// The database fails, or the push queue is not bound within `start.wait_s`.
    pub(super) async fn build(
        self,
        tokens: Arc<Tokens>,
        revoked: Arc<Revoked>,
        follower: ShardFollower,
        listening: &Shutdown,
    ) -> anyhow::Result<http::Deps> {
        let announcer = self.announcer();
        let groups = self.groups(&announcer).await;
        let online = self.presence(&groups);
        let (watches, devices) = (self.watches(&online), self.devices(&announcer));
        let in_flight = Arc::new(InFlight::new());
        self.tasks.spawn_essential("key files", Arc::clone(&tokens).follow_files(self.tasks.clone()));
        let revocations = self.revocations(&announcer, revoked).await?;
        let reads = self.reads(&groups, &announcer)?;
        self.watch(&groups)?;
        let connections = Arc::new(connection::Deps {
            gateway: self.gateway,
            settings: Arc::new(connection::PresentSettings::of(&self.config)),
            hub: Arc::clone(&self.hub),
            sends: self.sends(&groups, &in_flight, follower)?,
            reads: Arc::clone(&reads),
            memberships: Arc::clone(&groups.memberships),
            budgets: Arc::clone(&self.budgets),
            online: online.clone(),
            devices: Arc::clone(&devices),
            typing: Arc::new(Typing::new(Arc::clone(&groups.memberships), announcer.clone())),
            watches: Arc::clone(&watches),
            logins: self.logins(&groups.memberships),
            tokens: Arc::clone(&tokens),
            revocations: Arc::clone(&revocations),
            shutdown: listening.clone(),
        });
        self.receive_events(&groups, in_flight, &revocations, (devices, watches)).await?;
        let FeedParts { feed, notifications, webhooks } = self.feed_parts(listening, &connections).await?;
        Ok(http::Deps {
            files: Files::open(&self.live, &self.stores.pool, &groups.memberships).await?,
            profile_changes: self.follow(&connections, &groups),
            changes: self.group_changes(&groups, &connections.sends),
            settings: http::HttpSettings::of(&self.config),
            views: self.views(&groups, announcer),
            commit: self.commit,
            connections,
            reads,
            budgets: Arc::clone(&self.budgets),
            memberships: groups.memberships,
            quotas: groups.quotas,
            live: Arc::clone(&self.live),
            online,
            feed,
            notifications,
            webhooks,
            processes: Arc::new(self.processes()),
            accounts: self.accounts()?,
            pool: self.stores.pool,
            tokens,
            revocations,
            shutdown: listening.clone(),
        })
    }

    fn announcer(&self) -> Announcer {
        let (announcer, announcing) = announcer(Arc::clone(&self.stores.events));
        self.tasks.spawn_essential("events to other gateways", announcing);
        announcer
    }

    /// Applies changes of the configuration, beside HTTP calls and the listener. Returns the rates of changes of profiles.
    fn follow(&self, connections: &Arc<connection::Deps>, groups: &Groups) -> Arc<Rates<UserId>> {
        let live = &self.live;
        live.follow(&connections.settings, |settings, config, _| settings.set(config));
        live.follow(&connections.logins, |logins, config, tasks| {
            let limits = &config.limits;
            logins.resize(limits.logins_at_once, limits.logins_waiting_max, tasks);
        });
        live.follow(&connections.sends, |sends, config, tasks| sends.set(config, tasks));
        live.follow(&self.budgets, |budgets, config, tasks| {
            budgets.set(BudgetSettings::of(&config.limits), tasks);
        });
        live.follow(&groups.quotas, |quotas, config, _| quotas.set(quota_settings(&config.groups)));
        let profiles = Arc::new(Rates::new(profile_changes(&self.config)));
        live.follow(&profiles, |rates, config, _| rates.set(profile_changes(config)));
        profiles
    }

    /// Starts what makes the gateway ready or not, apart from the push queue.
    ///
    /// # Errors
    /// The address of the management API is invalid.
    fn watch(&self, groups: &Groups) -> Result<(), ConfigError> {
        let Stores { pool, redis, publishing, events, .. } = &self.stores;
        let policies = PolicyWatch::new(&self.config.amqp, publishing.topology().clone(), &self.health)?;
        self.tasks.spawn_essential("look at policies", policies.run(self.tasks.clone()));
        let check = |name: &str| self.health.check(name);
        let topology = Some(check("rabbitmq queues"));
        let keeping = Arc::clone(publishing).keep_up(topology, self.tasks.clone());
        self.tasks.spawn_essential("publishing connection", keeping);
        let keeping = Arc::clone(events).keep_up(None, self.tasks.clone());
        self.tasks.spawn_essential("event connection", keeping);
        let watching = watch_mysql(pool.clone(), check("mysql"), self.tasks.clone());
        self.tasks.spawn_essential("check of MySQL", watching);
        let (redis, live) = (redis.clone(), Arc::clone(&groups.live));
        let watching = watch_redis(redis, live, check("redis"), self.tasks.clone());
        self.tasks.spawn_essential("check of Redis", watching);
        Ok(())
    }

    fn devices(&self, announcer: &Announcer) -> Arc<Devices> {
        let ranks = DeviceRanks::new(self.stores.redis.clone());
        Arc::new(Devices::new(ranks, announcer.clone(), self.tasks.clone()))
    }

    async fn groups(&self, announcer: &Announcer) -> Groups {
        let Stores { pool, redis, .. } = &self.stores;
        let settings = &self.config.groups;
        let policy = GroupPolicy {
            large_above: settings.large_above,
            members_max: settings.members_max,
            has_system_entries: settings.system_messages,
            feed: self.stores.feed,
        };
        let inboxes = Inboxes::new(redis.clone(), self.config.inbox.ttl_s);
        let inbox_updates = InboxUpdates::new(inboxes.clone(), self.tasks.clone());
        let quotas = Arc::new(Quotas::new(pool.clone(), quota_settings(settings)));
        let open_groups = OpenGroups {
            auto_create: settings.auto_create,
            ids: settings.id_profile,
            policy,
            quotas: Arc::clone(&quotas),
            announcer: announcer.clone(),
            inbox_updates: inbox_updates.clone(),
        };
        let hub = Arc::clone(&self.hub);
        let memberships = Arc::new(Memberships::new(hub, pool.clone(), open_groups, self.tasks.clone()));
        let following = follow_change_log(Arc::clone(&memberships), self.tasks.clone());
        self.tasks.spawn_essential("list of membership changes", following);
        let registry = LivenessRegistry::gateways(redis.clone(), GATEWAY_EXPIRY);
        let live = LiveGateways::join(registry, self.gateway).await;
        self.tasks.spawn_essential("heartbeat", Arc::clone(&live).stay(self.tasks.clone()));
        let barriers = Arc::new(Barriers::new(self.gateway, announcer.clone(), Arc::clone(&live)));
        Groups { memberships, policy, inbox_updates, quotas, barriers, live, inboxes }
    }

    fn presence(&self, groups: &Groups) -> Online {
        let presence = Presence::new(self.stores.redis.clone(), self.gateway);
        let (hub, live) = (Arc::clone(&self.hub), Arc::clone(&groups.live));
        let (online, recording) = online(presence, hub, live, self.tasks.clone());
        self.tasks.spawn_essential("presence", recording);
        online
    }

    fn watches(&self, online: &Online) -> Arc<Watches> {
        let redis = &self.stores.redis;
        let watches = Arc::new(Watches::new(WatchDeps {
            pool: self.stores.pool.clone(),
            hub: Arc::clone(&self.hub),
            budgets: Arc::clone(&self.budgets),
            online: online.clone(),
            presence: Presence::new(redis.clone(), self.gateway),
            registry: LivenessRegistry::gateways(redis.clone(), GATEWAY_EXPIRY),
            features: Features::of(&self.config),
            users_max: self.config.presence.watched_users_max,
            deadline: Duration::from_millis(self.config.limits.request_deadline_ms),
        }));
        self.tasks.spawn_essential("presence events", Arc::clone(&watches).follow(self.tasks.clone()));
        watches
    }

    fn views(&self, groups: &Groups, announcer: Announcer) -> Views {
        Views {
            pool: self.stores.pool.clone(),
            memberships: Arc::clone(&groups.memberships),
            barriers: Arc::clone(&groups.barriers),
            announcer,
            inbox_updates: groups.inbox_updates.clone(),
            has_notifications: self.config.push.enabled,
        }
    }

    /// The admission of messages, and a pipeline for each shard.
    ///
    /// # Errors
    /// A file of the hook is unusable.
    fn sends(
        &self,
        groups: &Groups,
        in_flight: &Arc<InFlight>,
        follower: ShardFollower,
    ) -> Result<Arc<Sends>, ConfigError> {
        let Stores { pool, redis, publishing, .. } = &self.stores;
        let limits = &self.config.limits;
        let sequence = Sequence::new(redis.clone(), self.config.redis.sent_ttl_s);
        let memberships = Arc::clone(&groups.memberships);
        let hook = Hook::new(&self.config.hook, self.tasks.clone())?;
        let sends = Sends::new(&self.config, memberships, pool.clone(), sequence.clone(), hook);
        let sends = Arc::new(sends);
        let numbering = Numbering::new(sequence, pool.clone());
        let context = PipelineContext::new(limits, Arc::clone(in_flight));
        self.live.follow(context.limits(), |batches, config, tasks| batches.set(&config.limits, tasks));
        let (publishing, tasks) = (Arc::clone(publishing), self.tasks.clone());
        let pipelines = Pipelines::new(Arc::clone(&sends), numbering, context, publishing, tasks);
        self.tasks.spawn_essential("layout of the shards", follower.run(pipelines, self.tasks.clone()));
        let keeping = Arc::clone(in_flight).keep_deadlines(self.tasks.clone());
        self.tasks.spawn_essential("deadlines", keeping);
        Ok(sends)
    }

    fn reads(&self, groups: &Groups, announcer: &Announcer) -> anyhow::Result<Arc<Reads>> {
        // The others are for calls and background tasks.
        let concurrency = usize::try_from(self.config.mysql.connections_max.saturating_sub(2).max(1))?;
        let deadline = Duration::from_millis(self.config.limits.request_deadline_ms);
        let inbox_ttl_s = self.config.inbox.ttl_s;
        let has_notifications = self.config.push.enabled;
        let settings = ReadSettings { concurrency, deadline, inbox_ttl_s, has_notifications };
        let deps = ReadDeps {
            pool: self.stores.pool.clone(),
            inboxes: groups.inboxes.clone(),
            memberships: Arc::clone(&groups.memberships),
            budgets: Arc::clone(&self.budgets),
            announcer: announcer.clone(),
            tasks: self.tasks.clone(),
        };
        Ok(Arc::new(Reads::new(deps, settings)))
    }

    /// The workers have the same expiry here: it is longer than their own, so that no live one is removed.
    fn processes(&self) -> Processes {
        let redis = &self.stores.redis;
        let gateways = LivenessRegistry::gateways(redis.clone(), GATEWAY_EXPIRY);
        let workers = LivenessRegistry::workers(redis.clone(), GATEWAY_EXPIRY);
        Processes::new(gateways, workers, ProcessAddresses::new(redis.clone()))
    }

    /// Receives events from here on: clients that connect later miss none.
    async fn receive_events(
        &self,
        groups: &Groups,
        in_flight: Arc<InFlight>,
        revocations: &Arc<Revocations>,
        (devices, watches): (Arc<Devices>, Arc<Watches>),
    ) -> anyhow::Result<()> {
        let targets = EventTargets {
            hub: Arc::clone(&self.hub),
            memberships: Arc::clone(&groups.memberships),
            barriers: Arc::clone(&groups.barriers),
            in_flight,
            revocations: Arc::clone(revocations),
            devices,
            watches,
        };
        let fanout = Fanout::new(self.gateway, targets, self.tasks.clone());
        let check = self.health.check("push queue");
        let listener = Listener::new(Arc::clone(&self.stores.events), self.gateway, fanout, check);
        let mut bound = listener.bound();
        self.tasks.spawn_essential("push queue", listener.run(self.tasks.clone()));
        let wait = self.config.start.wait().max(BIND_TIMEOUT_MIN);
        tokio::time::timeout(wait, bound.wait_for(|bound| *bound))
            .await
            .context("binding the push queue")??;
        groups.barriers.hello().await;
        Ok(())
    }
}

/// How often a user may change its profile.
fn profile_changes(config: &Config) -> Rate {
    Rate::per_minute(config.profiles.changes_per_minute)
}

fn quota_settings(groups: &config::Groups) -> QuotaSettings {
    QuotaSettings {
        groups_per_user_max: groups.per_user_max,
        made_per_day: groups.made_per_day,
        added_per_day: groups.members_added_per_day,
        members_need_accounts: groups.members_need_accounts,
    }
}
