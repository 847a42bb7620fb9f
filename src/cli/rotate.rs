//! `rotate` and `rotate status`.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::task::JoinHandle;

use super::Global;
use super::output::{Output, bytes, time};
use super::serving::told_to_stop;
use crate::clock::{Clock as _, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::keys::RootKeyState;
use crate::rotation::{RotateOptions, RotationStatus};
use crate::store::Store;
use crate::store::service::{RemoteStore, is_due};

/// How often another process is asked how far it is.
const LOOK: Duration = Duration::from_millis(250);

/// Idempotent: what is not due is left alone, what was interrupted goes on, retained epochs whose time has come are
/// destroyed. Where `serve` runs, that does it, for who is an admin in its file of services; Ctrl-C then only stops
/// looking. Exit codes: 0 done or nothing to do, 5 no admin there, 6 somebody else rotates it or has the store, 7 records
/// do not open (the old epoch is kept), 9 a service is away, 10 told to stop, or some tenants were rotated and some were
/// not. After 6, 9 and 10 run it again.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct RotateArgs {
    #[command(subcommand)]
    command: Option<RotateCommand>,
    /// Rotate this tenant now, due or not; repeat for more
    #[arg(long, short, value_name = "TENANT")]
    tenant: Vec<TenantId>,
    /// Rotate every tenant whose epoch is due
    #[arg(long, conflicts_with = "tenant")]
    all_due: bool,
    /// Show what would be done
    #[arg(long)]
    dry_run: bool,
    /// What seals from now on: gcm-siv, gcm, or a whole name [default: as before]
    #[arg(long, requires = "tenant")]
    suite: Option<String>,
    /// Make another root key and certificate first; the old root key is destroyed after the last of its epochs
    #[arg(long)]
    root_key: bool,
    /// The keys may be known to somebody: do not give way to others, and destroy the old epoch at once
    #[arg(long, requires = "tenant")]
    compromised: bool,
    /// Remove records that do not open; without this they stay, and their epoch with them
    #[arg(long, requires = "tenant")]
    discard_damaged: bool,
}

#[derive(Subcommand)]
enum RotateCommand {
    /// Show how far rotations are, and which epochs are kept until when
    Status {
        /// Only this tenant
        #[arg(long, short, value_name = "TENANT")]
        tenant: Option<TenantId>,
    },
}

/// What is known of one tenant.
#[derive(Serialize)]
struct Named {
    tenant: String,
    due: bool,
    #[serde(flatten)]
    status: RotationStatus,
}

pub(super) async fn run(global: &Global, args: RotateArgs, output: &Output) -> Result<()> {
    if args.command.is_none() && args.tenant.is_empty() && !args.all_due {
        return Err(Error::invalid("it is not said what to rotate")
            .with_remedy("name tenants with `--tenant`, or say `--all-due`"));
    }
    let place = match global.options()?.running_store()? {
        Some(remote) => Place::There(RemoteStore::new(remote)?),
        None => Place::Here(global.open().await?),
    };
    let run = Run { place, output };
    let stopping = run.place.stop_when_told()?;
    let result = match &args.command {
        Some(RotateCommand::Status { tenant }) => run.show(tenant.as_slice()).await,
        None if args.dry_run => run.show_plan(&args).await,
        None => run.rotate(&args).await,
    };
    if let Some(stopping) = stopping {
        stopping.abort();
    }
    let closed = match run.place {
        Place::Here(store) => store.close().await,
        Place::There(_) => Ok(()),
    };
    result?;
    closed
}

/// Who rotates.
enum Place {
    /// This process, which has the store.
    Here(Store),
    /// Another one.
    There(RemoteStore),
}

impl Place {
    async fn tenants(&self) -> Result<Vec<TenantId>> {
        match self {
            Self::Here(store) => store.tenants().await,
            Self::There(store) => store.tenants().await,
        }
    }

    async fn named(&self, tenant: &TenantId) -> Result<Named> {
        let (status, due) = match self {
            Self::Here(store) => {
                let status = store.rotation(tenant).await?;
                let due = is_due(store, tenant, &status).await?;
                (status, due)
            }
            Self::There(store) => {
                let state = store.rotation(tenant).await?;
                (state.status, state.due)
            }
        };
        Ok(Named { tenant: tenant.as_str().to_owned(), due, status })
    }

    /// A rotation here ends after what it writes when this process is told to stop. One there goes on.
    fn stop_when_told(&self) -> Result<Option<JoinHandle<()>>> {
        let Self::Here(store) = self else { return Ok(None) };
        let (store, told) = (store.clone(), told_to_stop()?);
        Ok(Some(tokio::spawn(async move {
            told.await;
            store.stop_rotations();
        })))
    }

    /// Rotates a tenant. `false` when nothing was due.
    async fn rotate(&self, tenant: &TenantId, args: &RotateArgs, bar: Arc<ProgressBar>) -> Result<bool> {
        let mut options = RotateOptions {
            suite: None,
            root_key: args.root_key,
            compromised: args.compromised,
            discard_damaged: args.discard_damaged,
            in_windows: false,
        };
        match self {
            Self::Here(store) => {
                options.suite = store.suite_of(tenant, args.suite.as_deref()).await?;
                let destroyed = store.destroy_retained(tenant).await?;
                if args.all_due && !is_due(store, tenant, &store.rotation(tenant).await?).await? {
                    return Ok(!destroyed.is_empty());
                }
                store.rotate(tenant, options, move |status| shown(&bar, status)).await.map(|_| true)
            }
            Self::There(store) => {
                let begun = store.rotate(tenant, args.suite.as_deref(), &options, args.all_due).await?;
                let mut interval = tokio::time::interval(LOOK);
                loop {
                    interval.tick().await;
                    let state = store.rotation(tenant).await?;
                    match (state.running, state.failure) {
                        (true, _) => shown(&bar, &state.status),
                        (false, Some(failure)) if begun => return Err(failure),
                        (false, _) => return Ok(begun),
                    }
                }
            }
        }
    }
}

/// What every way of calling it works with.
struct Run<'a> {
    place: Place,
    output: &'a Output,
}

impl Run<'_> {
    async fn show(&self, tenants: &[TenantId]) -> Result<()> {
        let tenants = if tenants.is_empty() { self.place.tenants().await? } else { tenants.to_vec() };
        let mut all = Vec::with_capacity(tenants.len());
        for tenant in &tenants {
            all.push(self.place.named(tenant).await?);
        }
        self.output.answer(&all, |all| all.iter().map(described).collect::<Vec<_>>().join("\n"))
    }

    async fn show_plan(&self, args: &RotateArgs) -> Result<()> {
        if args.root_key {
            self.output.remark("each tenant that is rotated would get another root key and certificate");
        }
        self.show(&args.tenant).await
    }

    async fn rotate(&self, args: &RotateArgs) -> Result<()> {
        let tenants = if args.all_due { self.place.tenants().await? } else { args.tenant.clone() };
        let (mut done, mut failed) = (Vec::new(), None);
        for tenant in &tenants {
            match self.rotate_one(tenant, args).await {
                Ok(named) => done.extend(named),
                Err(e) => {
                    self.output.remark(&format!("{}: {e}", tenant.as_str()));
                    failed = failed.or(Some(e));
                }
            }
        }
        self.output.answer(&done, |done| {
            if done.is_empty() {
                "nothing was due".to_owned()
            } else {
                done.iter().map(described).collect::<Vec<_>>().join("\n")
            }
        })?;
        match failed {
            Some(e) if done.is_empty() => Err(e),
            Some(e) => Err(Error::new(ErrorKind::Partial, "some tenants were not rotated")
                .with_remedy("run it again: what is done is not done twice")
                .with_source(e)),
            None => Ok(()),
        }
    }

    /// `None` for a tenant that has nothing to be done.
    async fn rotate_one(&self, tenant: &TenantId, args: &RotateArgs) -> Result<Option<Named>> {
        let bar = Arc::new(self.output.progress(Some(0), "{prefix} {bar} {pos}/{len} {per_sec} {eta} {msg}"));
        let rotated = self.place.rotate(tenant, args, bar.clone()).await;
        bar.finish_and_clear();
        if rotated? { self.place.named(tenant).await.map(Some) } else { Ok(None) }
    }
}

fn shown(bar: &ProgressBar, status: &RotationStatus) {
    bar.set_length(status.total.max(status.records));
    bar.set_position(status.records);
    let from = status.from.last().map_or_else(String::new, |from| format!("{} ", from.fingerprint));
    let speed = match status.speed_percent {
        100.. => String::new(),
        percent => format!(", giving way ({percent} %)"),
    };
    bar.set_message(format!("{from}\u{2192} {}, {}{speed}", status.active.fingerprint, bytes(status.bytes)));
}

fn described(named: &Named) -> String {
    let Named { tenant, due, status } = named;
    let mut lines = vec![format!(
        "{tenant}: {}, epoch {} ({}, {}){}",
        serde_json::to_value(status.phase).ok().and_then(|p| p.as_str().map(str::to_owned)).unwrap_or_default(),
        status.active.epoch,
        status.active.fingerprint,
        status.active.suite,
        if *due { ", due" } else { "" }
    )];
    if let Some(last) = &status.last {
        let seconds = last.finished_at_ms.saturating_sub(last.started_at_ms) / 1000;
        lines.push(format!(
            "  last: {} records, {} in {seconds} s, done {}",
            last.records,
            bytes(last.bytes),
            time(last.finished_at_ms)
        ));
    }
    let now_ms = SystemClock.now_ms();
    lines.extend(status.retained.iter().map(|retained| {
        let due = if retained.destroy_at_ms <= now_ms { ", due" } else { "" };
        format!(
            "  epoch {} ({}) opens until {}{due}",
            retained.epoch,
            retained.fingerprint,
            time(retained.destroy_at_ms)
        )
    }));
    // A tenant has one root key unless that was rotated.
    let kept = status.root_keys.iter().filter(|root| root.state == RootKeyState::Deactivated);
    lines.extend(kept.map(|root| format!("  {}", super::tenant::describe_root(root))));
    lines.join("\n")
}
