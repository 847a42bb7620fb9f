//! `rotate` and `rotate status`.

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Global;
use super::output::{Output, bytes, time};
use super::serving::told_to_stop;
use crate::clock::{Clock as _, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::keys::policy::{Due, Policy};
use crate::rotation::{Phase, RotateOptions, RotationStatus};
use crate::store::Store;

/// Idempotent: what is not due is left alone, what was interrupted goes on, retained epochs whose time has come are
/// destroyed. Exit codes: 0 done or nothing to do, 6 another process has the store, 7 records do not open (the old epoch
/// is kept), 10 some tenants were rotated and some were not.
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
    let policy = global.options()?.policy();
    let run = Run { store: global.open().await?, policy, output };
    let (stopping, stop) = (run.store.clone(), told_to_stop()?);
    let stopping = tokio::spawn(async move {
        stop.await;
        stopping.stop_rotations();
    });
    let result = match &args.command {
        Some(RotateCommand::Status { tenant }) => run.show(tenant.as_slice()).await,
        None if args.dry_run => run.show(&args.tenant).await,
        None => run.rotate(&args).await,
    };
    stopping.abort();
    let closed = run.store.close().await;
    result?;
    closed
}

/// What every way of calling it works with.
struct Run<'a> {
    store: Store,
    policy: Policy,
    output: &'a Output,
}

impl Run<'_> {
    async fn named(&self, tenant: &TenantId) -> Result<Named> {
        let status = self.store.rotation(tenant).await?;
        let keys = self.store.tenant_keys(tenant).await?;
        let overdue = self.policy.due(&keys, SystemClock.now_ms()).iter().any(|due| matches!(due, Due::Rotate { .. }));
        let due = overdue || !status.from.is_empty() || status.phase != Phase::Idle;
        Ok(Named { tenant: tenant.as_str().to_owned(), due, status })
    }

    async fn show(&self, tenants: &[TenantId]) -> Result<()> {
        let tenants = if tenants.is_empty() { self.store.tenants().await? } else { tenants.to_vec() };
        let mut all = Vec::with_capacity(tenants.len());
        for tenant in &tenants {
            all.push(self.named(tenant).await?);
        }
        self.output.answer(&all, |all| all.iter().map(described).collect::<Vec<_>>().join("\n"))
    }

    async fn rotate(&self, args: &RotateArgs) -> Result<()> {
        let tenants = if args.all_due { self.store.tenants().await? } else { args.tenant.clone() };
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
        let destroyed = self.store.destroy_retained(tenant).await?;
        if args.all_due && !self.named(tenant).await?.due {
            return if destroyed.is_empty() { Ok(None) } else { self.named(tenant).await.map(Some) };
        }
        let options = RotateOptions {
            suite: self.store.suite_of(tenant, args.suite.as_deref()).await?,
            compromised: args.compromised,
            in_windows: false,
            discard_damaged: args.discard_damaged,
        };
        let bar = Arc::new(self.output.progress(Some(0), "{prefix} {bar} {pos}/{len} {per_sec} {eta} {msg}"));
        let shown = bar.clone();
        let rotated = self
            .store
            .rotate(tenant, options, move |status| {
                shown.set_length(status.total.max(status.records));
                shown.set_position(status.records);
                let from = status.from.last().map_or_else(String::new, |from| format!("{} ", from.fingerprint));
                shown.set_message(format!("{from}\u{2192} {}, {}", status.active.fingerprint, bytes(status.bytes)));
            })
            .await;
        bar.finish_and_clear();
        rotated?;
        self.named(tenant).await.map(Some)
    }
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
    lines.join("\n")
}
