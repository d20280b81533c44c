//! What the parts of the message path can do alone, here and now, and what the whole can do at most.
//!
//! Each part is a small program of its own on the real servers: sockets without a gateway, the script without senders,
//! bodies without messages in them, rows without a worker. It is driven as hard as it goes while the processor time of
//! all processes that take part is counted. A message needs all of the parts, so its price is at least the sum of theirs,
//! and the machine can do at most its cores divided by that price.
//!
//! What is *not* in the price, though no system could do without it: reading and writing JSON and protobuf, checking,
//! and looking up who is concerned. The bound is therefore a little higher than anything that can be built.

mod numbers;
mod part;
mod queue;
mod rows;
mod sockets;
mod table;

use std::path::Path;

use serde::Serialize;

pub use part::Part;
use testbed::stack::Servers;

/// How the parts are driven.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// Seconds that count, for each part.
    pub seconds: f64,
    /// Messages in one script call, one body, one statement.
    pub batch: usize,
    /// Bytes of each message's content.
    pub size: usize,
    /// Sockets that send, and sockets that a push goes to.
    pub sockets: usize,
    /// Messages in one push frame.
    pub messages_per_push: usize,
}

/// The most that can be made of a part's price.
#[derive(Debug, Clone, Serialize)]
pub struct Bound {
    /// Of what.
    pub name: &'static str,
    /// The parts that are in its price.
    pub parts: Vec<&'static str>,
    /// Processor microseconds for one, all processes together.
    pub cpu_us: f64,
    /// With all cores, for nothing else.
    pub per_second: f64,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Limits {
    /// As asked.
    pub settings: Settings,
    /// What the bounds share out.
    pub cores: usize,
    /// The parts, in the order of a message's way.
    pub parts: Vec<Part>,
    /// What follows.
    pub bounds: Vec<Bound>,
}

/// Measures part by part, on servers of its own under `folder`. `tell` hears about each.
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
    done(numbers::numbers(settings, &urls.redis, &servers).await?);
    done(queue::confirmed(settings, &urls.amqp, &servers).await?);
    done(queue::carried(settings, &urls.amqp, &servers).await?);
    done(rows::rows(settings, &urls.mysql, &servers).await?);
    done(queue::told(settings, &urls.amqp, &servers).await?);
    done(sockets::fanned_out(settings, &servers).await?);
    servers.stop().await;
    let cores = std::thread::available_parallelism()?.get();
    let bounds = bounds(&parts, cores, settings.sockets);
    Ok(Limits { settings: settings.clone(), cores, parts, bounds })
}

/// What each accepted and stored message needs.
const STORED: [&str; 5] = [sockets::FRAMES, numbers::NUMBERS, queue::CARRIED, rows::ROWS, queue::TOLD];

#[allow(clippy::cast_precision_loss)] // some cores
fn bounds(parts: &[Part], cores: usize, members: usize) -> Vec<Bound> {
    let price = |name: &str| parts.iter().find(|part| part.name == name).map_or(0.0, Part::cpu_us_all);
    let stored: f64 = STORED.iter().map(|name| price(name)).sum();
    let delivery = price(sockets::FANNED_OUT) + stored / (members.max(1) as f64);
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
    fn a_bound_is_the_cores_over_the_sum_of_prices() {
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
