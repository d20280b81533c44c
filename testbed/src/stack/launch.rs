//! Starts the gateways and workers of a system.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use super::links::End;
use super::settings::Program;
use super::system::System;
use super::{Service, Urls, free_port};

impl System {
    pub(super) async fn start_services(&mut self) -> anyhow::Result<()> {
        if self.plan.linked {
            for n in 0..self.plan.workers {
                self.links.between(End::Worker(n), &self.urls).await?;
            }
            for n in 0..self.plan.gateways {
                self.links.between(End::Gateway(n), &self.urls).await?;
            }
        }
        // All at once, as on many machines: migrations must allow that. Another version runs before the new one starts.
        let old = usize::from(self.plan.other.is_some());
        let (workers, gateways) = (self.plan.workers, self.plan.gateways);
        for (workers, gateways) in
            [(0..old.min(workers), 0..old.min(gateways)), (old..workers, old..gateways)]
        {
            let (workers, gateways) = tokio::try_join!(
                futures_util::future::try_join_all(workers.map(|n| self.start_worker(n))),
                futures_util::future::try_join_all(gateways.map(|n| self.start_gateway(n)))
            )?;
            self.workers.extend(workers);
            self.gateways.extend(gateways);
        }
        if self.plan.linked {
            for (n, gateway) in self.gateways.iter().enumerate() {
                self.links.to(End::Clients, End::Gateway(n), gateway.port()).await?;
            }
        }
        Ok(())
    }

    async fn start_worker(&self, n: usize) -> anyhow::Result<Service> {
        let port = free_port()?;
        let mut environment = self.environment(End::Worker(n), Program::Worker);
        environment.splice(0..0, self.file_settings());
        environment.push(address(OPS, port));
        self.start(n, "worker", (port, port), environment).await
    }

    async fn start_gateway(&self, n: usize) -> anyhow::Result<Service> {
        let port = match self.plan.ports.get(n) {
            Some(port) => *port,
            None => free_port()?,
        };
        let ops_port = free_port()?;
        let mut environment = self.environment(End::Gateway(n), Program::Gateway);
        // First, so that a setting of the builder replaces it.
        environment.splice(0..0, self.file_settings());
        environment.insert(0, ("IM__AUTH__API_KEY".to_owned(), self.operator_key.clone()));
        environment.push(address("IM__LISTEN__ADDRESS", port));
        environment.push(address(OPS, ops_port));
        self.start(n, "gateway", (port, ops_port), environment).await
    }

    /// Pictures and files are in the folder of the system, which all processes see.
    fn file_settings(&self) -> [(String, String); 3] {
        let folder = self.logs.with_file_name("files").display().to_string();
        let key = format!("links-{}", self.operator_key);
        [("STORE", "folder".to_owned()), ("FOLDER", folder), ("LINKS_KEY", key)]
            .map(|(key, value)| (format!("IM__FILES__{key}"), value))
    }

    /// An earlier version refuses settings that it does not know: it is started without them.
    async fn start(
        &self,
        n: usize,
        name: &str,
        ports: (u16, u16),
        mut environment: Vec<(String, String)>,
    ) -> anyhow::Result<Service> {
        let log = self.logs.join(format!("{name}-{n}.log"));
        let earlier = self.plan.other_build(n);
        let file = earlier.map_or_else(|| program(name), |other| Ok(other.folder.join(name)))?;
        loop {
            let (file, log) = (file.clone(), log.clone());
            let started = Service::start(format!("{name} {n}"), file, log, ports, environment.clone()).await;
            let unknown = started.as_ref().err().and_then(|error| unknown_setting(&format!("{error:#}")));
            let count = environment.len();
            environment.retain(|(key, _)| !unknown.as_ref().is_some_and(|unknown| is_named(key, unknown)));
            if earlier.is_none() || environment.len() == count {
                return started;
            }
        }
    }

    fn environment(&self, end: End, program: Program) -> Vec<(String, String)> {
        let urls = self.links.urls(end, &self.urls);
        let own = addresses(&urls, &self.prefix);
        let own = own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        own.chain(self.plan.environment.iter().filter(|(key, _)| program.takes(key)).cloned()).collect()
    }

    /// [`imctl`] with the addresses of this system.
    ///
    /// # Errors
    /// If it is not built.
    pub fn imctl(&self) -> anyhow::Result<Command> {
        let mut command = imctl()?;
        command.envs(addresses(&self.urls, &self.prefix));
        Ok(command)
    }

    /// Starts one more worker.
    ///
    /// # Errors
    /// If it does not start, with the end of its log.
    pub async fn add_worker(&mut self) -> anyhow::Result<()> {
        let n = self.workers.len();
        if self.plan.linked {
            self.links.between(End::Worker(n), &self.urls).await?;
        }
        let worker = self.start_worker(n).await?;
        self.workers.push(worker);
        Ok(())
    }

    /// Stops the processes of another version, one by one, and starts this version in their place.
    ///
    /// # Errors
    /// If one has to be killed, or does not start.
    pub async fn change_version(&mut self) -> anyhow::Result<()> {
        for (service, name) in [(&mut self.workers[0], "worker"), (&mut self.gateways[0], "gateway")] {
            service.terminate().await.context("it had to be killed")?;
            service.replace(program(name)?);
            // The earlier version may not have known it.
            let (key, value) = address(OPS, service.ops_port());
            service.set(&key, &value);
            service.start_again().await?;
        }
        Ok(())
    }
}

/// The setting of the operator's listener.
const OPS: &str = "IM__OPS__ADDRESS";

fn address(key: &str, port: u16) -> (String, String) {
    (key.to_owned(), format!("127.0.0.1:{port}"))
}

/// Whether the end of `key`, or its section, is `unknown`.
fn is_named(key: &str, unknown: &str) -> bool {
    key.ends_with(unknown) || key.contains(&format!("{unknown}__"))
}

/// The end of the name of the setting or section that a process did not know, according to its log.
fn unknown_setting(error: &str) -> Option<String> {
    let field = error.rsplit_once("unknown field `")?.1.split('`').next()?;
    Some(format!("__{}", field.to_uppercase()))
}

/// The settings that name the servers, and what begins the names of exchanges and queues.
fn addresses<'a>(urls: &'a Urls, prefix: &'a str) -> [(&'static str, &'a str); 4] {
    [
        ("IM__MYSQL__URL", &urls.mysql),
        ("IM__REDIS__URL", &urls.redis),
        ("IM__AMQP__URL", &urls.amqp),
        ("IM__AMQP__PREFIX", prefix),
    ]
}

/// `imctl` without the settings of this process's environment, and without standard input.
///
/// # Errors
/// If it is not built.
pub fn imctl() -> anyhow::Result<Command> {
    let mut command = Command::new(program("imctl")?);
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.as_encoded_bytes().starts_with(b"IM_")) {
        command.env_remove(key);
    }
    command.stdin(Stdio::null());
    Ok(command)
}

/// The file of a program of this project: beside this program, or in the folder that `IM_BIN_DIR` names.
///
/// # Errors
/// If it is not built.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let folder = match std::env::var_os("IM_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let own = std::env::current_exe()?;
            let folder = own.parent().context("this program has no folder")?;
            // Test programs are in a subfolder.
            if folder.ends_with("deps") {
                folder.parent().unwrap_or(folder).to_owned()
            } else {
                folder.to_owned()
            }
        }
    };
    let program = folder.join(name);
    anyhow::ensure!(program.is_file(), "{} is not built: cargo build --bins", program.display());
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_unknown_by_its_name_or_its_section() {
        for (error, key) in [
            ("configuration: unknown field `ops`, expected one of `listen`", OPS),
            ("unknown field `timeout_ms`, expected one of `url`", "IM__MYSQL__TIMEOUT_MS"),
        ] {
            let unknown = unknown_setting(error).unwrap();
            assert!(is_named(key, &unknown), "{unknown}");
            assert!(!is_named("IM__LISTEN__ADDRESS", &unknown), "{unknown}");
        }
        assert_eq!(unknown_setting("another error"), None);
    }
}
