//! `breaker list|trip|release`: pauses what a tenant's keys open, and lets it go on.

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{Output, time};
use super::{Global, TenantArg, sidecar};
use crate::error::Result;
use crate::id::TenantId;
use crate::sidecar::Client;
use crate::store::service::RemoteStore;
use crate::store::{Paused, Store};

#[derive(Subcommand)]
pub(super) enum BreakerCommand {
    /// Show the tenants whose reads are paused, since when and why
    List(At),
    /// Pause a tenant's reads, redeems and tokens until they are released, over restarts too
    Trip {
        #[command(flatten)]
        tenant: TenantArg,
        #[command(flatten)]
        at: At,
    },
    /// Let a tenant's reads go on
    Release {
        #[command(flatten)]
        tenant: TenantArg,
        #[command(flatten)]
        at: At,
    },
}

/// Whose breaker it is.
#[derive(Args)]
pub(super) struct At {
    /// That of the sidecar that runs by these settings, not of the store
    #[arg(long)]
    sidecar: bool,
}

pub(super) async fn run(global: &Global, command: BreakerCommand, output: &Output) -> Result<()> {
    match command {
        BreakerCommand::List(at) => {
            let place = Place::find(global, &at).await?;
            let listed = place.list().await;
            place.close().await?;
            output.answer(&listed?, |all| all.iter().map(described).collect::<Vec<_>>().join("\n"))
        }
        BreakerCommand::Trip { tenant, at } => {
            let place = Place::find(global, &at).await?;
            let changed = place.trip(&tenant.tenant).await;
            place.close().await?;
            said(output, &tenant.tenant, "paused", changed?)
        }
        BreakerCommand::Release { tenant, at } => {
            let place = Place::find(global, &at).await?;
            let changed = place.release(&tenant.tenant).await;
            place.close().await?;
            said(output, &tenant.tenant, "released", changed?)
        }
    }
}

fn said(output: &Output, tenant: &TenantId, what: &str, changed: bool) -> Result<()> {
    let tenant = tenant.as_str();
    output.answer(&json!({ "tenant": tenant, "state": what, "changed": changed }), |_| {
        if changed { format!("{what}: {tenant}") } else { format!("{tenant} was not to be {what}: it is so already") }
    })
}

fn described(paused: &Paused) -> String {
    let who = paused.tenant.as_deref().unwrap_or(&paused.pseudonym);
    format!("{}  {who}  {}", time(paused.since_ms), paused.cause)
}

/// Whose breaker it is.
enum Place {
    /// That of the store in this process.
    Here(Store),
    /// That of a store in another one.
    There(RemoteStore),
    /// That of a sidecar.
    Sidecar(Client),
}

impl Place {
    async fn find(global: &Global, at: &At) -> Result<Self> {
        let options = global.options()?;
        if at.sidecar {
            return sidecar::client(&options).map(Self::Sidecar);
        }
        match options.running_store()? {
            Some(remote) => RemoteStore::new(remote).map(Self::There),
            None => global.open_with(options).await.map(Self::Here),
        }
    }

    async fn list(&self) -> Result<Vec<Paused>> {
        match self {
            Self::Here(store) => store.breakers().await,
            Self::There(store) => store.breakers().await,
            Self::Sidecar(client) => {
                let paused = client.paused().await?.into_iter().map(|(pseudonym, trip)| Paused {
                    tenant: None,
                    pseudonym,
                    since_ms: trip.since_ms,
                    cause: trip.cause,
                });
                Ok(paused.collect())
            }
        }
    }

    async fn trip(&self, tenant: &TenantId) -> Result<bool> {
        match self {
            Self::Here(store) => store.trip_breaker(tenant).await,
            Self::There(store) => store.trip_breaker(tenant).await,
            Self::Sidecar(client) => client.pause(tenant).await,
        }
    }

    async fn release(&self, tenant: &TenantId) -> Result<bool> {
        match self {
            Self::Here(store) => store.release_breaker(tenant).await,
            Self::There(store) => store.release_breaker(tenant).await,
            Self::Sidecar(client) => client.release(tenant).await,
        }
    }

    async fn close(self) -> Result<()> {
        match self {
            Self::Here(store) => store.close().await,
            Self::There(_) | Self::Sidecar(_) => Ok(()),
        }
    }
}
