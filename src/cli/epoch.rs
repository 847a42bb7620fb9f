//! `epoch list|create|activate|deactivate|compromised|destroy`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{Output, time};
use super::{Global, TenantArg};
use crate::clock::{Clock as _, SystemClock};
use crate::error::{Error, Result};
use crate::id::Epoch;
use crate::keys::policy::Due;
use crate::keys::{EpochRecord, TenantRecord};

#[derive(Subcommand)]
pub(super) enum EpochCommand {
    /// List a tenant's epochs, by fingerprint
    List {
        #[command(flatten)]
        tenant: TenantArg,
    },
    /// Make the next epoch: a fresh secret, not used yet
    Create {
        #[command(flatten)]
        tenant: TenantArg,
        /// What seals in it: gcm-siv, gcm, or a whole name [default: as in the active epoch]
        #[arg(long)]
        suite: Option<String>,
    },
    /// Make a pre-active epoch the one that seals
    Activate(EpochArgs),
    /// Deactivate the active epoch in favour of the latest pre-active one
    Deactivate(EpochArgs),
    /// Mark an epoch as compromised; another takes over if it is the active one
    Compromised(EpochArgs),
    /// Destroy an epoch's secret: what is still sealed in it never opens again
    Destroy {
        #[command(flatten)]
        which: EpochArgs,
        /// Really
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args)]
pub(super) struct EpochArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// Its number
    #[arg(value_parser = number)]
    epoch: Epoch,
}

fn number(text: &str) -> Result<Epoch> {
    let number: u32 =
        text.parse().map_err(|_| Error::invalid(format!("`{}` is not an epoch", crate::id::shown(text))))?;
    Epoch::try_from(number)
}

pub(super) async fn run(global: &Global, command: EpochCommand, output: &Output) -> Result<()> {
    if let EpochCommand::Destroy { which, yes: false } = &command {
        return Err(Error::invalid(format!("what is still sealed in epoch {} never opens again", which.epoch))
            .with_remedy("add `--yes` if that is what you want"));
    }
    let store = global.open().await?;
    let result = match &command {
        EpochCommand::List { tenant } => match store.tenant_keys(&tenant.tenant).await {
            Ok(keys) => list(global, &keys, output),
            Err(e) => Err(e),
        },
        EpochCommand::Create { tenant, suite } => {
            let made = match store.suite_of(&tenant.tenant, suite.as_deref()).await {
                Ok(suite) => store.create_epoch(&tenant.tenant, suite).await,
                Err(e) => Err(e),
            };
            said(made, output)
        }
        EpochCommand::Activate(a) => said(store.activate_epoch(&a.tenant.tenant, a.epoch).await, output),
        EpochCommand::Deactivate(a) => said(store.deactivate_epoch(&a.tenant.tenant, a.epoch).await, output),
        EpochCommand::Compromised(a) => said(store.mark_epoch_compromised(&a.tenant.tenant, a.epoch).await, output),
        EpochCommand::Destroy { which, .. } => match store.destroy_epoch(&which.tenant.tenant, which.epoch).await {
            Ok(gone) => output.answer(&json!({ "destroyed": gone }), |_| {
                format!("destroyed epoch {} ({}); {} seals now", gone.epoch, gone.fingerprint, gone.active_fingerprint)
            }),
            Err(e) => Err(e),
        },
    };
    store.close().await.and(result)
}

fn list(global: &Global, keys: &TenantRecord, output: &Output) -> Result<()> {
    let due = global.options()?.policy().due(keys, SystemClock.now_ms());
    output.answer(&json!({ "epochs": keys.epochs, "root_keys": keys.root_keys, "due": due }), |_| {
        let mut text: String = keys.epochs.iter().map(|e| describe(e) + "\n").collect();
        if keys.root_keys.len() > 1 {
            keys.root_keys.iter().for_each(|root| text += &(super::tenant::describe_root(root) + "\n"));
        }
        for due in &due {
            text += &match due {
                Due::Rotate { epoch, .. } => format!("due: rotation of epoch {epoch}\n"),
                Due::Destroy { epoch, .. } => format!("due: destruction of epoch {epoch}\n"),
            };
        }
        text
    })
}

fn said(epoch: Result<EpochRecord>, output: &Output) -> Result<()> {
    output.answer(&epoch?, describe)
}

/// One epoch, on one line.
pub(super) fn describe(e: &EpochRecord) -> String {
    format!("epoch {} ({} since {}): {}, {}", e.epoch, e.state, time(e.since_ms), e.suite, e.fingerprint)
}
