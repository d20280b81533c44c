//! Runs the commands.

use std::path::Path;

use anyhow::Context as _;
use gateway::config::Config;
use gateway::webhooks::{check_url, test, views};
use serde::Serialize;
use serde_json::Value;
use shared::config::Secret;
use shared::feed::FeedShards;
use shared::mysql::Pool;
use shared::mysql::feed::{extents, reader_states};
use shared::mysql::webhooks::{self, ReplayFrom};
use shared::webhook::{Webhook, WebhookId, WebhookPatch, check_secret};
use shared::webhook_signature::new_secret;

use super::text;
use crate::context::{Context, gateway_file};
use crate::output::{Ending, Output};
use crate::prompt::confirm;
use crate::webhook_arguments::{ReplayPlace, WebhookCommand, WebhookSettings};

#[derive(Debug, Serialize)]
struct List {
    webhooks: Vec<Value>,
}

#[derive(Debug, Serialize)]
struct Removed {
    id: String,
}

/// Runs one of the commands.
pub(crate) async fn run(
    context: &Context,
    command: WebhookCommand,
    output: Output,
) -> anyhow::Result<Ending> {
    let pool = context.mysql().await?;
    match command {
        WebhookCommand::List => {
            let all = webhooks::all(&pool).await?;
            let states = reader_states(&pool, "webhook_").await?;
            let list =
                views(&all, &states, None).iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
            output.show(&List { webhooks: list }, |list| text::list(&list.webhooks))?;
            Ok(Ending::Good)
        }
        WebhookCommand::Show { id } => {
            let shown = show(&pool, &find(&pool, &id).await?.id, None, output).await?;
            Ok(if shown["state"] == "failing" { Ending::Finding } else { Ending::Good })
        }
        WebhookCommand::Add { name, url, secret_file, settings } => {
            let secret = secret(secret_file.as_deref())?;
            let patch = patch(Some(name), Some(url), settings)?;
            add(&pool, &patch, &secret, output).await
        }
        WebhookCommand::Set { id, name, url, settings } => {
            set(&pool, &id, &patch(name, url, settings)?, output).await
        }
        WebhookCommand::Remove { id, yes } => {
            let webhook = find(&pool, &id).await?;
            confirm(&format!("Remove the webhook {} ({})?", webhook.name, webhook.url), yes)?;
            webhooks::remove(&pool, &webhook.id).await?;
            output.show(&Removed { id }, |removed| format!("removed {}", removed.id))?;
            Ok(Ending::Good)
        }
        WebhookCommand::Pause { id } => pause(&pool, &id, true, output).await,
        WebhookCommand::Resume { id } => pause(&pool, &id, false, output).await,
        WebhookCommand::Replay { id, shard, place } => {
            let id = find(&pool, &id).await?.id;
            let places = webhooks::replay_places(&pool, from(&place)?, shard).await??;
            webhooks::replay(&pool, &id, &places).await?;
            good(show(&pool, &id, None, output).await)
        }
        WebhookCommand::Rotate { id, keep_old_s, secret_file } => {
            let secret = secret(secret_file.as_deref())?;
            let id = find(&pool, &id).await?.id;
            webhooks::rotate(&pool, &id, &Secret::from(secret.as_str()), keep_old_s).await?;
            good(show(&pool, &id, Some(&secret), output).await)
        }
        WebhookCommand::Test { id, gateway } => {
            let config = Config::load(gateway_file(gateway.as_deref()).as_deref())?;
            let tested = test(&config, &find(&pool, &id).await?).await?;
            output.show(&tested, text::tested)?;
            Ok(if tested.is_delivered { Ending::Good } else { Ending::Finding })
        }
    }
}

async fn set(pool: &Pool, id: &str, patch: &WebhookPatch, output: Output) -> anyhow::Result<Ending> {
    anyhow::ensure!(*patch != WebhookPatch::default(), "nothing to change: see `imctl webhook set --help`");
    let id = find(pool, id).await?.id;
    webhooks::change(pool, &id, patch).await?;
    good(show(pool, &id, None, output).await)
}

fn good(shown: anyhow::Result<Value>) -> anyhow::Result<Ending> {
    shown.map(|_| Ending::Good)
}

async fn find(pool: &Pool, id: &str) -> anyhow::Result<Webhook> {
    let no_webhook = || format!("there is no webhook {id}: `imctl webhook list` prints their ids");
    let id = WebhookId::parse(id).with_context(no_webhook)?;
    webhooks::find(pool, &id).await?.with_context(no_webhook)
}

/// Shows the webhook as `GET /api/admin/webhooks/{id}` does.
async fn show(pool: &Pool, id: &WebhookId, secret: Option<&str>, output: Output) -> anyhow::Result<Value> {
    let webhook = find(pool, id.as_str()).await?;
    let states = reader_states(pool, &id.reader()).await?;
    let shown = serde_json::to_value(views(std::slice::from_ref(&webhook), &states, secret).first())?;
    output.show(&shown, text::one)?;
    Ok(shown)
}

fn secret(file: Option<&Path>) -> anyhow::Result<String> {
    let Some(file) = file else { return Ok(new_secret()) };
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let secret = text.trim_end_matches(['\r', '\n']).to_owned();
    check_secret(&secret)?;
    Ok(secret)
}

/// Checks everything as a gateway does.
fn patch(
    name: Option<String>,
    url: Option<String>,
    settings: WebhookSettings,
) -> anyhow::Result<WebhookPatch> {
    let WebhookSettings { event_types, conversations, batch_events, batch_bytes, gateway } = settings;
    if let Some(url) = &url {
        check_url(&Config::load(gateway_file(gateway.as_deref()).as_deref())?, url)??;
    }
    let list = |text: String| -> Vec<String> {
        text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect()
    };
    let types = event_types.map(list).as_deref().map(WebhookPatch::parse_types).transpose()?;
    let conversations = conversations.map(list);
    let patch = WebhookPatch { name, url, types, conversations, batch_events, batch_bytes };
    patch.check()?;
    Ok(patch)
}

async fn add(pool: &Pool, patch: &WebhookPatch, secret: &str, output: Output) -> anyhow::Result<Ending> {
    let shards = u16::try_from(extents(pool).await?.len()).ok().and_then(FeedShards::new);
    let shards = shards.context("the change feed was never switched on: feed.enabled")?;
    let id = WebhookId::random();
    webhooks::add(pool, &id, (patch, &Secret::from(secret)), shards).await?;
    good(show(pool, &id, Some(secret), output).await)
}

async fn pause(pool: &Pool, id: &str, is_paused: bool, output: Output) -> anyhow::Result<Ending> {
    let id = find(pool, id).await?.id;
    webhooks::pause(pool, &id, is_paused).await?;
    good(show(pool, &id, None, output).await)
}

fn from(place: &ReplayPlace) -> anyhow::Result<ReplayFrom> {
    Ok(match (&place.cursor, place.since_ms) {
        (Some(cursor), _) => ReplayFrom::Cursor(cursor.parse()?),
        (None, Some(time_ms)) => ReplayFrom::Time(time_ms),
        (None, None) if place.oldest => ReplayFrom::Oldest,
        (None, None) => ReplayFrom::Latest,
    })
}
