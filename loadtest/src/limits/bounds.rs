//! Measures all parts, and computes the bounds.

use std::path::Path;

use serde::Serialize;

use super::part::Part;
use super::{queue, rows, sequences, sockets};
use testbed::stack::Servers;

/// The load of each part.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// Measured seconds of each part.
    pub seconds: f64,
    /// Messages in one script call, one body, one statement.
    pub batch: usize,
    /// Bytes of each message's content.
    pub size: usize,
    /// Sockets that send, and sockets that receive each push.
    pub sockets: usize,
    /// Messages in one push frame.
    pub messages_per_push: usize,
}

/// An upper bound that follows from the cost of parts.
#[derive(Debug, Clone, Serialize)]
pub struct Bound {
    /// The bounded quantity.
    pub name: &'static str,
    /// The parts in its cost.
    pub parts: Vec<&'static str>,
    /// Microseconds of processor time for one, over all processes.
    pub cpu_us: f64,
    /// Per second, if all cores do nothing else.
    pub per_second: f64,
}

/// The measurements, and the bounds that follow.
#[derive(Debug, Clone, Serialize)]
pub struct Limits {
    /// The load of each part.
    pub settings: Settings,
    /// Cores of the machine.
    pub cores: usize,
    /// The parts, in the order of the message path.
    pub parts: Vec<Part>,
    /// The bounds.
    pub bounds: Vec<Bound>,
}

/// Measures each part, on servers of its own under `folder`. `tell` gets each result.
///
/// # Errors
/// If a server cannot be started, or a part fails.
pub async fn limits(
    settings: &Settings,
    folder: &Path,
    mut tell: impl FnMut(&Part),
) -> anyhow::Result<Limits> {
    let mut servers = Servers::start(folder).await?;
    let urls = servers.urls();
    let mut parts = Vec::new();
    let mut done = |part: Part| {
        tell(&part);
        parts.push(part);
    };
    done(sockets::frames(settings, &servers).await?);
    done(sequences::sequences(settings, &urls.redis, &servers).await?);
    done(queue::confirmed(settings, &urls.amqp, &servers).await?);
    done(queue::carried(settings, &urls.amqp, &servers).await?);
    done(rows::rows(settings, &urls.mysql, &servers).await?);
    done(queue::events(settings, &urls.amqp, &servers).await?);
    done(sockets::fanned_out(settings, &servers).await?);
    servers.stop().await;
    let cores = std::thread::available_parallelism()?.get();
    let bounds = bounds(&parts, cores, settings.sockets);
    Ok(Limits { settings: settings.clone(), cores, parts, bounds })
}

/// The parts that each accepted and stored message needs.
const STORED: [&str; 5] = [sockets::FRAMES, sequences::SEQUENCES, queue::CARRIED, rows::ROWS, queue::EVENTS];

#[expect(clippy::cast_precision_loss, reason = "some cores")]
fn bounds(parts: &[Part], cores: usize, members: usize) -> Vec<Bound> {
    let cost = |name: &str| parts.iter().find(|part| part.name == name).map_or(0.0, Part::cpu_us_all);
    let stored: f64 = STORED.iter().map(|name| cost(name)).sum();
    let delivery = cost(sockets::FANNED_OUT) + stored / (members.max(1) as f64);
    let bound = |name, parts: Vec<&'static str>, cpu_us: f64| {
        let per_second = if cpu_us > 0.0 { cores as f64 * 1e6 / cpu_us } else { 0.0 };
        Bound { name, parts, cpu_us, per_second }
    };
    let delivered = STORED.iter().chain(&[sockets::FANNED_OUT]).copied().collect();
    vec![
        bound("acked and stored, senders only", STORED.to_vec(), stored),
        bound("delivered to one of that many sockets", delivered, delivery),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_the_cores_divided_by_the_sum_of_costs() {
        let part = |name, cpu_us| Part {
            name,
            what: "",
            count: 1,
            per_second: 1.0,
            cpu_us: [("all".to_owned(), cpu_us)].into(),
        };
        let mut parts: Vec<Part> = STORED.iter().map(|name| part(name, 4.0)).collect();
        parts.push(part(sockets::FANNED_OUT, 0.5));
        let bounds = bounds(&parts, 2, 40);
        assert!((bounds[0].per_second - 100_000.0).abs() < 1e-6, "{bounds:?}");
        assert!((bounds[1].per_second - 2_000_000.0).abs() < 1e-6, "{bounds:?}");
    }
}
