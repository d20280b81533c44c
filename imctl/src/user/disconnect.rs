//! `imctl user disconnect`: ends all connections and tokens of a user.

use std::sync::Arc;

use proto::v1;
use serde::Serialize;
use shared::amqp::{Broker, EventStream};
use shared::health::Health;
use shared::ids::{UserId, unix_millis};
use shared::mysql::{Pool, revocations};

use crate::context::Context;
use crate::output::{Ending, Output};
use crate::prompt::confirm;
use crate::text::time;

/// What `imctl user disconnect --json` prints.
#[derive(Debug, Serialize)]
struct Disconnected {
    user_id: String,
    /// Tokens that were issued up to this time have ended.
    revoked_before_ms: i64,
    /// Why the gateways were not told at once; they read the revocation within two seconds.
    not_announced: Option<String>,
}

/// Revokes the user's tokens, and tells all gateways.
pub(crate) async fn run(context: &Context, id: &str, yes: bool, output: Output) -> anyhow::Result<Ending> {
    let user = UserId::parse(id)?;
    confirm(&format!("Close all connections of {id} and revoke its tokens?"), yes)?;
    let pool = context.mysql().await?;
    let not_before_ms = unix_millis();
    revocations::revoke(&pool, &user, not_before_ms).await?;
    // The row is what counts: every gateway reads it within two seconds. The event is faster.
    let announced = announce(context, &pool, &user, not_before_ms).await;
    let disconnected = Disconnected {
        user_id: user.as_str().to_owned(),
        revoked_before_ms: not_before_ms,
        not_announced: announced.err().map(|error| format!("{error:#}")),
    };
    output.show(&disconnected, text)?;
    Ok(Ending::Good)
}

async fn announce(context: &Context, pool: &Pool, user: &UserId, not_before_ms: i64) -> anyhow::Result<()> {
    let topology = context.topology(context.shards(pool).await?);
    let check = Health::new().check("rabbitmq");
    let broker = Arc::new(Broker::new(&context.config().amqp, topology, "imctl", check)?);
    // Fails if RabbitMQ cannot be reached; the stream would only log that.
    drop(broker.channel().await?);
    let event = v1::TokensRevoked { user_id: user.as_str().to_owned(), not_before_ms };
    let mut stream = EventStream::new(Arc::clone(&broker), None);
    stream.publish(vec![v1::Event { kind: Some(v1::event::Kind::TokensRevoked(event)) }]).await;
    // Returns when the broker has put it into the queues of all gateways.
    stream.end().await;
    broker.close().await;
    Ok(())
}

fn text(done: &Disconnected) -> String {
    let revoked = format!(
        "the connections of {} are closed, and its tokens of up to {} are revoked",
        done.user_id,
        time(done.revoked_before_ms)
    );
    match &done.not_announced {
        None => revoked,
        Some(why) => format!("{revoked}, within two seconds: the gateways were not told ({why})"),
    }
}
