//! The gauges of a gateway, set now and then: nothing on the path of a message or a connection changes them.

use std::sync::Arc;
use std::time::Duration;

use shared::metrics::{
    GATEWAY_CONNECTIONS, GATEWAY_HOOK_BREAKER, GATEWAY_HOOK_IN_PROGRESS, GATEWAY_HOOK_WAITING,
    GATEWAY_IN_FLIGHT, GATEWAY_IN_FLIGHT_LIMIT, GATEWAY_LOGINS_WAITING, GATEWAY_WEBHOOK_FAILING,
    GATEWAY_WEBHOOK_LAG,
};
use shared::shutdown::Shutdown;

use crate::connection;
use crate::webhooks::Webhooks;

/// How often the gauges are set.
const INTERVAL: Duration = Duration::from_millis(500);

/// Sets the gauges until `tasks` stops.
#[expect(clippy::cast_precision_loss, reason = "all of these amounts are far below 2^52")]
pub(super) async fn set_gauges(
    parts: Arc<connection::Deps>,
    webhooks: Option<Arc<Webhooks>>,
    tasks: Shutdown,
) {
    let connections = metrics::gauge!(GATEWAY_CONNECTIONS);
    let (in_flight, limit) = (metrics::gauge!(GATEWAY_IN_FLIGHT), metrics::gauge!(GATEWAY_IN_FLIGHT_LIMIT));
    let logins = metrics::gauge!(GATEWAY_LOGINS_WAITING);
    while tasks.sleep(INTERVAL).await {
        connections.set(parts.hub.connections() as f64);
        let (messages, messages_max) = parts.sends.in_flight();
        in_flight.set(messages as f64);
        limit.set(messages_max as f64);
        logins.set(parts.logins.waiting() as f64);
        if let Some((hook, waiting)) = parts.sends.hook_gauges() {
            metrics::gauge!(GATEWAY_HOOK_IN_PROGRESS).set(hook.calls as f64);
            metrics::gauge!(GATEWAY_HOOK_WAITING).set(waiting as f64);
            metrics::gauge!(GATEWAY_HOOK_BREAKER).set(f64::from(u8::from(hook.is_open)));
        }
        if let Some(webhooks) = &webhooks {
            let report = webhooks.lag();
            metrics::gauge!(GATEWAY_WEBHOOK_FAILING).set(report.failing as f64);
            metrics::gauge!(GATEWAY_WEBHOOK_LAG).set(report.lag_s);
        }
    }
}
