//! The price of a message as the system grows: more conversations, more history, more gateways.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::figures::Figures;
use super::load::{FIFTY_SENDERS, Load};
use super::outcome::{Goal, Outcome};
use super::run::run;
use super::sampler::Sampler;
use super::scale::Scale;
use super::steady::sampled;
use super::target::Target;
use testbed::client::{Chat, Client, Report, chat_frame};
use testbed::meter::{OWN, per_1000};

/// Messages of each step that is measured.
const MESSAGES: usize = 100_000;
/// The most that a step may cost, as a multiple of the first one.
const FLAT: f64 = 1.2;
const SENDERS: usize = 50;
const WINDOW: usize = 64;
/// Time for MySQL to write its changed pages.
const WRITE_OUT_TIMEOUT: Duration = Duration::from_secs(300);

/// Microseconds of processor time per message, without the load generator.
fn price(costs: &std::collections::BTreeMap<String, f64>) -> f64 {
    costs.iter().filter(|(process, _)| *process != OWN).map(|(_, seconds)| seconds * 1000.0).sum()
}

fn add_steps(outcome: &mut Outcome, steps: &[(String, f64)]) {
    for (name, price) in steps {
        outcome.figure(&format!("processor time for a message, {name}"), *price, "us", None);
    }
    let (first, rest) = (steps[0].1, &steps[1..]);
    let most = rest.iter().map(|(_, price)| price / first).fold(0.0, f64::max);
    outcome.figure("the most expensive step against the first", most, "x", Some(Goal::Under(FLAT)));
}

/// 1, 2, 4 and 8 gateways.
pub(super) async fn gateways(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let load = Load { messages: scale.of(MESSAGES), ..FIFTY_SENDERS };
    let mut steps = Vec::new();
    let mut outcome = Outcome::default();
    for count in [8, 4, 2, 1] {
        for gateway in count..8 {
            target.system()?.gateway(gateway).terminate().await;
        }
        let warm_up = Load { messages: 20_000, ..load.clone() };
        on_gateways("warmup", &warm_up, target, count).await?;
        let figures = on_gateways("gateways", &load, target, count).await?;
        steps.insert(0, (format!("{count} gateways"), price(&figures.cpu_seconds_per_1000)));
        figures.add_to(&mut outcome);
    }
    outcome.what =
        format!("{} messages from {SENDERS} senders, window {WINDOW}, at each step", load.messages);
    add_steps(&mut outcome, &steps);
    Ok(outcome)
}

/// Runs a load on the first `count` gateways.
async fn on_gateways(name: &str, load: &Load, target: &mut Target, count: usize) -> anyhow::Result<Figures> {
    let deployment = target.deployment().with_first(count);
    let report = Arc::new(Report::default());
    let sampler = Sampler::start(&format!("{count} gateways"), target, &report).await?;
    let name = format!("{name}{count}");
    let figures = Box::pin(run(load, &deployment, &name, &report, || target.used())).await?;
    drop(sampler);
    Ok(figures)
}

/// 10 to 100,000 conversations, each message into the next one.
pub(super) async fn conversations(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let report = Arc::new(Report::default());
    let sampler = Sampler::start("growth-conversations", target, &report).await?;
    let mut steps = Vec::new();
    for full in [10, 1_000, 10_000, 100_000] {
        // At least one for each sender; the smallest step has 10 senders.
        let conversations = scale.of(full).max(10);
        let senders = SENDERS.min(conversations);
        sampler.mark(&format!("{conversations} conversations"));
        // The first message of a conversation costs more: its row is inserted.
        let first = Round { conversations, senders, messages: conversations.max(20_000), name: "first" };
        round(&first, target, &report).await?;
        let second = Round { messages: scale.of(MESSAGES), name: "second", ..first };
        let costs = round(&second, target, &report).await?;
        steps.push((format!("{conversations} conversations"), price(&costs)));
    }
    (outcome.samples, outcome.marks) = sampler.finish();
    outcome.what = format!("{MESSAGES} messages at each step, spread evenly over private conversations");
    add_steps(&mut outcome, &steps);
    Ok(outcome)
}

#[derive(Clone, Copy)]
struct Round {
    conversations: usize,
    senders: usize,
    messages: usize,
    name: &'static str,
}

async fn round(
    round: &Round,
    target: &mut Target,
    report: &Arc<Report>,
) -> anyhow::Result<std::collections::BTreeMap<String, f64>> {
    let gateways = target.deployment().gateways().to_vec();
    let mut clients = Vec::new();
    for n in 0..round.senders {
        clients.push(Client::connect(&gateways[n % gateways.len()], &format!("many{}", n)).await?);
    }
    let before = target.used();
    let acked = Arc::new(AtomicU64::new(0));
    let mut sending = JoinSet::new();
    for (n, client) in clients.into_iter().enumerate() {
        sending.spawn(send(client, n, *round, Arc::clone(report), Arc::clone(&acked)));
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    // The commit of the last message is not enough: shards commit independently of each other.
    wait_until_stored(target, &acked).await?;
    Ok(per_1000(&before, &target.used(), acked.load(Ordering::Relaxed)))
}

async fn send(
    mut client: Client,
    n: usize,
    round: Round,
    report: Arc<Report>,
    acked: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let (own, messages) = (round.conversations / round.senders, round.messages / round.senders);
    let frame = |at: usize| {
        chat_frame(&Chat {
            conversation: format!("private_many{n}_peer{}", at % own),
            msg_id: format!("{}{}-{at}", round.name, round.conversations),
            content: "x".repeat(200),
            stored: false,
        })
    };
    let socket = client.socket();
    let (mut sent, mut answered) = (0, 0);
    while answered < messages {
        while sent < messages && sent - answered < WINDOW {
            socket.feed(Message::text(frame(sent))).await?;
            sent += 1;
            report.sent.fetch_add(1, Ordering::Relaxed);
        }
        socket.flush().await?;
        let mut next = socket.next().await;
        while let Some(Ok(reply)) = next {
            let text = reply.to_text()?;
            if text.starts_with(r#"{"cmd":2,"#) {
                anyhow::ensure!(text.starts_with(r#"{"cmd":2,"code":0,"#), "refused: {text}");
                answered += 1;
                report.acked.fetch_add(1, Ordering::Relaxed);
                acked.fetch_add(1, Ordering::Relaxed);
            }
            let Some(ready) = socket.next().now_or_never() else { break };
            next = ready;
        }
    }
    Ok(())
}

/// Waits until the number of stored messages has not changed for a while and covers all that were acknowledged.
async fn wait_until_stored(target: &Target, acked: &AtomicU64) -> anyhow::Result<()> {
    let mut mysql = target.mysql().await?.context("no MySQL to ask")?;
    let sum = "SELECT CAST(COALESCE(SUM(last_seq), 0) AS UNSIGNED) FROM conversation";
    let mut last = 0;
    let mut same = 0;
    while same < 4 {
        let now: u64 = sqlx::query_scalar(sum).fetch_one(&mut mysql).await?;
        same = if now == last && now >= acked.load(Ordering::Relaxed) { same + 1 } else { 0 };
        last = now;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Ok(())
}

/// Rows in the table: 10,000 to 10,000,000.
pub(super) async fn history(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let load = Load { messages: MESSAGES, ..FIFTY_SENDERS };
    sampled("warm-up", &Load { messages: 10_000, ..load.clone() }, target).await?;
    let mut mysql = target.mysql().await?.context("no MySQL to fill")?;
    let mut steps = Vec::new();
    for full in [10_000, 100_000, 1_000_000, 10_000_000] {
        let rows = fill(&mut mysql, scale.of(full)).await?;
        write_out(&mut mysql).await?;
        let name = format!("{rows} rows of history");
        let (figures, _) = sampled(&name, &load, target).await?;
        steps.push((name, price(&figures.cpu_seconds_per_1000)));
        figures.add_to(&mut outcome);
    }
    outcome.what = format!("{MESSAGES} messages from {SENDERS} senders, window {WINDOW}, at each step");
    add_steps(&mut outcome, &steps);
    Ok(outcome)
}

/// Copies rows into other conversations until there are `wanted` rows; returns the number of rows.
async fn fill(mysql: &mut sqlx::MySqlConnection, wanted: usize) -> anyhow::Result<usize> {
    const AT_ONCE: usize = 200_000;
    loop {
        let count = "SELECT CAST(COUNT(*) AS UNSIGNED) FROM timeline_message";
        let rows: u64 = sqlx::query_scalar(count).fetch_one(&mut *mysql).await?;
        let rows = usize::try_from(rows)?;
        if rows >= wanted {
            return Ok(rows);
        }
        let copies = (wanted - rows).min(AT_ONCE);
        // A digest, not the name with a suffix: the names of copies of copies would be too long, and equal when cut.
        let copy = format!(
            "INSERT INTO timeline_message (conversation_id, seq, msg_id, sender_id, content, msg_type, send_time) \
             SELECT CONCAT('group_{rows}.', LEFT(SHA2(conversation_id, 256), 32)), seq, msg_id, sender_id, content, msg_type, send_time \
             FROM timeline_message LIMIT {copies}"
        );
        mysql.execute(AssertSqlSafe(copy)).await?;
    }
}

/// Waits until the copied pages are on disk: writing them is part of copying, not of the messages that follow.
async fn write_out(mysql: &mut sqlx::MySqlConnection) -> anyhow::Result<()> {
    /// MySQL may keep this many without haste.
    const FEW: u64 = 500;
    let (_, usual): (String, String) =
        sqlx::query_as("SHOW GLOBAL VARIABLES LIKE 'innodb_max_dirty_pages_pct'")
            .fetch_one(&mut *mysql)
            .await?;
    mysql.execute("SET GLOBAL innodb_max_dirty_pages_pct = 0").await?;
    let deadline = Instant::now() + WRITE_OUT_TIMEOUT;
    loop {
        let (_, dirty): (String, String) =
            sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'")
                .fetch_one(&mut *mysql)
                .await?;
        if dirty.parse::<u64>()? <= FEW {
            break;
        }
        anyhow::ensure!(Instant::now() < deadline, "MySQL still has {dirty} pages to write");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    mysql.execute(AssertSqlSafe(format!("SET GLOBAL innodb_max_dirty_pages_pct = {usual}"))).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_expensive_step_counts_without_the_load_generator() {
        let costs = [("MySQL".to_owned(), 0.002), (OWN.to_owned(), 9.0)].into();
        assert!((price(&costs) - 2.0).abs() < 1e-9);
        let mut outcome = Outcome::default();
        add_steps(&mut outcome, &[("1".into(), 10.0), ("2".into(), 11.0), ("3".into(), 13.0)]);
        let last = outcome.figures.last().unwrap();
        assert!((last.value - 1.3).abs() < 1e-9 && !last.goal.unwrap().is_met(last.value));
    }
}
