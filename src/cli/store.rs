//! `init`, `status`, `verify`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Global;
use super::output::{Output, bytes};
use crate::config::CONFIG_FILE;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::keys::keystore::file::KdfCost;
use crate::store::service::RemoteStore;
use crate::store::{CollectionStatus, Store, TenantReport};

#[derive(Args)]
pub(super) struct InitArgs {
    /// Memory that opening the keystore takes (Argon2id), in MiB
    #[arg(long, default_value_t = KdfCost::default().memory_kib >> 10, value_parser = clap::value_parser!(u32).range(1..=4096))]
    kdf_memory_mib: u32,
    /// Passes that opening the keystore takes (Argon2id)
    #[arg(long, default_value_t = KdfCost::default().passes, value_parser = clap::value_parser!(u32).range(1..=100))]
    kdf_passes: u32,
    /// Where private keys are: file, pkcs11 (a PKCS#11 3.2 token does everything) or pkcs11-wrapped (an older token wraps
    /// their seeds). This and the token are written to strongroom.toml
    #[arg(long, value_name = "CUSTODY", value_parser = ["file", "pkcs11", "pkcs11-wrapped"])]
    keystore: Option<String>,
    /// The token's PKCS#11 module, a shared library
    #[arg(long, value_name = "FILE")]
    pkcs11_module: Option<PathBuf>,
    /// The token's label; the passphrase is its user PIN
    #[arg(long, value_name = "LABEL")]
    pkcs11_token: Option<String>,
}

impl InitArgs {
    /// What is to be written to the configuration.
    fn settings(&self) -> toml::Table {
        let module = self.pkcs11_module.as_ref().map(|module| module.to_string_lossy().into_owned());
        let settings = [
            ("keystore", self.keystore.clone()),
            ("pkcs11_module", module),
            ("pkcs11_token", self.pkcs11_token.clone()),
        ];
        settings.into_iter().filter_map(|(key, value)| Some((key.to_owned(), toml::Value::from(value?)))).collect()
    }
}

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// Only this tenant
    #[arg(long, short, value_name = "TENANT")]
    tenant: Option<TenantId>,
}

pub(super) async fn init(global: &Global, args: InitArgs, output: &Output) -> Result<()> {
    let cost = KdfCost { memory_kib: args.kdf_memory_mib << 10, passes: args.kdf_passes, ..KdfCost::default() };
    let settings = args.settings();
    let options = global.options_with(&settings)?.kdf_cost(cost);
    if options.keystore_dir().join("keystore.json").exists() {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("there is a store in `{}` already", options.dir().display()),
        )
        .with_remedy("use it, or name another directory with `--dir`"));
    }
    if options.has_remote_keys() {
        return Err(Error::invalid("the keys of this store are with a key service").with_remedy(
            "use the store as it is: its data directory is made when it is first opened; or remove the setting `kms`",
        ));
    }
    let file = options.dir().join(CONFIG_FILE);
    if !settings.is_empty() && file.exists() {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("there is a configuration in `{}` already", file.display()),
        )
        .with_remedy("set `keystore`, `pkcs11_module` and `pkcs11_token` there, and leave the options out"));
    }
    Store::init(&options, global.passphrase(true)?).await?;
    if !settings.is_empty() {
        std::fs::write(&file, settings.to_string())?;
    }
    let answer =
        serde_json::json!({ "dir": options.dir(), "data": options.data_dir(), "keys": options.keystore_dir() });
    output.answer(&answer, |_| {
        format!(
            "store made in {}\n  data: {}\n  keys: {} (back these up apart from the data)",
            options.dir().display(),
            options.data_dir().display(),
            options.keystore_dir().display()
        )
    })
}

#[derive(Serialize)]
struct Status {
    dir: String,
    version: &'static str,
    provider: &'static str,
    disk_bytes: u64,
    memory_can_be_locked: bool,
    tenants: Vec<TenantStatus>,
}

#[derive(Serialize)]
struct TenantStatus {
    tenant: String,
    active_epoch: Option<u32>,
    epochs: usize,
    collections: Vec<NamedStatus>,
}

#[derive(Serialize)]
struct NamedStatus {
    collection: String,
    mode: String,
    #[serde(flatten)]
    status: CollectionStatus,
}

pub(super) async fn status(global: &Global, output: &Output) -> Result<()> {
    let options = global.options()?;
    let store = global.open().await?;
    let mut tenants = Vec::new();
    for id in store.tenants().await? {
        let keys = store.tenant_keys(&id).await?;
        let tenant = store.tenant(&id).await?;
        let mut collections = Vec::new();
        for collection in tenant.collections() {
            let (name, mode) = (collection.name().to_owned(), collection.mode().to_string());
            collections.push(NamedStatus { collection: name, mode, status: collection.status().await? });
        }
        let active = keys.epochs.iter().find(|e| e.state == crate::keys::EpochState::Active);
        tenants.push(TenantStatus {
            tenant: id.as_str().to_owned(),
            active_epoch: active.map(|e| e.epoch.as_u32()),
            epochs: keys.epochs.len(),
            collections,
        });
    }
    let status = Status {
        dir: options.dir().display().to_string(),
        version: env!("CARGO_PKG_VERSION"),
        provider: store.provider(),
        disk_bytes: disk_bytes(&options.data_dir()),
        memory_can_be_locked: can_lock(),
        tenants,
    };
    store.close().await?;
    output.answer(&status, describe)
}

fn describe(status: &Status) -> String {
    let mut text = format!(
        "strongroom {} in {} ({} on disk, {})\n",
        status.version,
        status.dir,
        bytes(status.disk_bytes),
        status.provider
    );
    if !status.memory_can_be_locked {
        text += "warning: memory cannot be locked here: indexes may be swapped out; raise `ulimit -l`\n";
    }
    if status.tenants.is_empty() {
        text += "no tenants yet: `strongroom tenant create NAME` makes one\n";
    }
    for tenant in &status.tenants {
        let epoch = tenant.active_epoch.map_or_else(|| "none".into(), |e| e.to_string());
        text += &format!("tenant {}: active epoch {epoch} of {}\n", tenant.tenant, tenant.epochs);
        for c in &tenant.collections {
            text += &format!("  {} ({}): {} chunks", c.collection, c.mode, c.status.chunks);
            if c.status.indexed_vectors > 0 {
                text += &format!(", {} in a search graph", c.status.indexed_vectors);
            }
            text += "\n";
        }
    }
    text
}

pub(super) async fn verify(global: &Global, args: VerifyArgs, output: &Output) -> Result<()> {
    let reports = match global.options()?.running_store()? {
        Some(remote) => verified_there(&RemoteStore::new(remote)?, args.tenant, output).await?,
        None => verified_here(global, args.tenant, output).await?,
    };
    output.answer(&reports, |reports| {
        let mut text = String::new();
        for (tenant, report) in reports {
            let collections = report.collections.iter().map(|(n, r)| (format!("collection {n}"), r));
            let memories = report.memory_embeddings.iter().map(|r| ("memory embeddings".to_owned(), r));
            for (name, r) in collections.chain(memories) {
                text += &format!("{tenant}, {name}: {} sound", r.sound);
                text += &damage(r.dropped.len(), r.unknown.len(), r.damaged.len());
            }
            let m = &report.memories;
            text += &format!("{tenant}, memories: {} sound, {} earlier versions", m.sound, m.history);
            text += &damage(m.dropped as usize, m.unknown as usize, m.damaged as usize);
        }
        text
    })?;
    if reports.values().all(TenantReport::is_clean) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Integrity, "verification found damage")
        .with_remedy("keep the data directory as it is for an investigation and restore from a backup"))
}

type Reports = BTreeMap<String, TenantReport>;

const VERIFYING: &str = "{spinner} verifying: {pos} points ({per_sec})";
/// How often another process is asked how far it is.
const LOOK: Duration = Duration::from_millis(100);

async fn verified_here(global: &Global, tenant: Option<TenantId>, output: &Output) -> Result<Reports> {
    let store = global.open().await?;
    let tenants = match tenant {
        Some(tenant) => vec![tenant],
        None => store.tenants().await?,
    };
    let mut reports = Reports::new();
    for id in &tenants {
        let bar = output.progress(None, VERIFYING);
        let counter = bar.clone();
        let report = store.tenant(id).await?.verify(move |points| counter.set_position(points)).await?;
        bar.finish_and_clear();
        reports.insert(id.as_str().to_owned(), report);
    }
    store.close().await?;
    Ok(reports)
}

/// Has the process verify that serves the store: of each kind of damage it names the first 1000 records.
async fn verified_there(store: &RemoteStore, tenant: Option<TenantId>, output: &Output) -> Result<Reports> {
    let tenants = match tenant {
        Some(tenant) => vec![tenant],
        None => store.tenants().await?,
    };
    let mut reports = Reports::new();
    for id in &tenants {
        let bar = output.progress(None, VERIFYING);
        let run = store.verify(id).await?;
        let mut interval = tokio::time::interval(LOOK);
        let report = loop {
            interval.tick().await;
            let state = store.verify_state(run).await?;
            bar.set_position(state.points);
            if let Some(ended) = state.ended {
                break ended?;
            }
        };
        bar.finish_and_clear();
        reports.insert(id.as_str().to_owned(), report);
    }
    Ok(reports)
}

fn damage(dropped: usize, unknown: usize, damaged: usize) -> String {
    if dropped + unknown + damaged == 0 {
        return "\n".into();
    }
    format!(", {dropped} DROPPED, {unknown} UNKNOWN, {damaged} DAMAGED\n")
}

fn can_lock() -> bool {
    crate::locked::LockedBuf::zeroed(1 << 20, crate::locked::LockPolicy::Prefer).is_ok_and(|buf| buf.is_locked())
}

fn disk_bytes(dir: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
