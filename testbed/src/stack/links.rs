//! The links of a system: one between each two parts that communicate.

use std::collections::BTreeMap;

use anyhow::Context as _;

use super::{Link, Urls};

/// One end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// All clients.
    Clients,
    /// The gateway with this index.
    Gateway(usize),
    /// The worker with this index.
    Worker(usize),
    /// MySQL.
    Mysql,
    /// Redis.
    Redis,
    /// RabbitMQ.
    Rabbitmq,
}

/// By the end that connects, and the end that listens.
#[derive(Debug, Default)]
pub(super) struct Links(BTreeMap<(End, End), Link>);

impl Links {
    /// Adds links from `end` to the three servers. There is none to a cluster, which has several addresses.
    pub(super) async fn between(&mut self, end: End, urls: &Urls) -> anyhow::Result<()> {
        for (server, url) in
            [(End::Mysql, &urls.mysql), (End::Redis, &urls.redis), (End::Rabbitmq, &urls.amqp)]
        {
            if !url.contains(',') && !url.contains("-cluster:") && !url.contains("-sentinel:") {
                self.to(end, server, port(url)?.1).await?;
            }
        }
        Ok(())
    }

    /// Adds a link from one end to another, which listens on `port`.
    pub(super) async fn to(&mut self, from: End, to: End, port: u16) -> anyhow::Result<()> {
        self.0.insert((from, to), Link::to(port).await?);
        Ok(())
    }

    pub(super) fn get(&self, from: End, to: End) -> Option<&Link> {
        self.0.get(&(from, to))
    }

    /// The addresses of the servers for `end`.
    pub(super) fn urls(&self, end: End, urls: &Urls) -> Urls {
        let through = |server, url: &String| match (self.get(end, server), port(url)) {
            (Some(link), Ok((place, _))) => {
                let mut url = url.clone();
                url.replace_range(place, &link.port().to_string());
                url
            }
            _ => url.clone(),
        };
        Urls {
            mysql: through(End::Mysql, &urls.mysql),
            redis: through(End::Redis, &urls.redis),
            amqp: through(End::Rabbitmq, &urls.amqp),
        }
    }
}

/// The port in an address on this machine, and its place in the text.
fn port(url: &str) -> anyhow::Result<(std::ops::Range<usize>, u16)> {
    const HOST: &str = "127.0.0.1:";
    let begin = url.rfind(HOST).with_context(|| format!("a link needs an address with {HOST}, not {url}"))?
        + HOST.len();
    let digits = url[begin..].find(|c: char| !c.is_ascii_digit()).unwrap_or(url.len() - begin);
    let place = begin..begin + digits;
    Ok((place.clone(), url[place].parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_addresses_of_an_end_are_those_of_its_links() {
        let urls = Urls {
            mysql: "mysql://root@127.0.0.1:3306/im".into(),
            redis: "redis://127.0.0.1:6379".into(),
            amqp: "amqp://guest:guest@127.0.0.1:5672/%2f".into(),
        };
        let mut links = Links::default();
        links.between(End::Worker(1), &urls).await.unwrap();
        let through = links.urls(End::Worker(1), &urls);
        let port = |to| links.get(End::Worker(1), to).unwrap().port();
        assert_eq!(through.mysql, format!("mysql://root@127.0.0.1:{}/im", port(End::Mysql)));
        assert_eq!(through.redis, format!("redis://127.0.0.1:{}", port(End::Redis)));
        assert_eq!(through.amqp, format!("amqp://guest:guest@127.0.0.1:{}/%2f", port(End::Rabbitmq)));
        assert_eq!(links.urls(End::Worker(0), &urls).mysql, urls.mysql);
    }
}
