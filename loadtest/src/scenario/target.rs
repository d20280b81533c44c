//! What a scenario runs against: a system of its own, or a running deployment.

use anyhow::Context as _;
use sqlx::ConnectOptions as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};

use super::deployment::Deployment;
use testbed::meter::{self, Used};
use testbed::stack::System;

/// What a scenario runs against.
#[derive(Debug)]
pub struct Target {
    deployment: Deployment,
    /// The processes, where they are this machine's.
    system: Option<System>,
}

impl Target {
    /// A system that was started for the run: its processes and its database can be looked at.
    #[must_use]
    pub fn own(system: System) -> Self {
        Self { deployment: Deployment::of(&system), system: Some(system) }
    }

    /// A running deployment, which is only known by its gateways.
    #[must_use]
    pub fn given(deployment: Deployment) -> Self {
        Self { deployment, system: None }
    }

    /// Gateways, credentials and names.
    #[must_use]
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The processes of a system of its own.
    ///
    /// # Errors
    /// For a running deployment.
    pub fn system(&mut self) -> anyhow::Result<&mut System> {
        self.system.as_mut().context("a running deployment's processes are not known")
    }

    /// The processes, if the system is its own.
    pub fn own_system(&mut self) -> Option<&mut System> {
        self.system.as_mut()
    }

    /// Processor time used so far, by process; empty for a running deployment.
    pub fn used(&mut self) -> Used {
        self.system.as_mut().map(meter::used).unwrap_or_default()
    }

    /// A connection to the MySQL of a system of its own.
    ///
    /// # Errors
    /// If MySQL cannot be reached.
    pub async fn mysql(&self) -> anyhow::Result<Option<MySqlConnection>> {
        match &self.system {
            Some(system) => Ok(Some(connect(&system.urls.mysql).await?)),
            None => Ok(None),
        }
    }

    /// Keeps the logs of a system of its own.
    pub fn keep_logs(&mut self) {
        if let Some(system) = &mut self.system {
            system.keep_logs();
        }
    }

    /// Stops a system of its own; a running deployment keeps running.
    pub async fn stop(self) {
        if let Some(system) = self.system {
            system.stop().await;
        }
    }
}

async fn connect(url: &str) -> anyhow::Result<MySqlConnection> {
    let options: MySqlConnectOptions = url.parse()?;
    Ok(options.disable_statement_logging().connect().await?)
}

/// SELECT statements that MySQL ran so far, those of the sampler included; `None` without a MySQL to ask.
pub(super) async fn selects(mysql: Option<&mut MySqlConnection>) -> anyhow::Result<Option<u64>> {
    let Some(mysql) = mysql else { return Ok(None) };
    let (_, count): (String, String) =
        sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Com_select'").fetch_one(mysql).await?;
    Ok(Some(count.parse()?))
}
