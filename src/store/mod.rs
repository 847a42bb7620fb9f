//! What agents call: one store, its tenants, their collections and memories. Calls that wait are `async`.
//!
//! ```
//! use strongroom::{Chunk, CollectionSpec, Metric, Passphrase, SearchRequest, Store, StoreOptions};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! let options = StoreOptions::new(dir.path());
//! # let options = options.kdf_cost(strongroom::keys::keystore::file::KdfCost::INSECURE_FAST);
//! let passphrase = || Passphrase::new(b"correct horse battery staple".to_vec());
//! Store::init(&options, passphrase()?).await?;
//! let store = Store::open(options, passphrase()?).await?;
//!
//! let acme = store.create_tenant(&"acme".parse()?).await?;
//! let docs = acme.create_collection("docs", CollectionSpec::new(3, Metric::Cosine)).await?;
//! docs.ingest(vec![
//!     Chunk::new(1, "the cat sat on the mat", vec![0.9, 0.1, 0.0]),
//!     Chunk::new(2, "interest rates rose again", vec![0.0, 0.2, 0.9]),
//! ])
//! .await?;
//!
//! let hits = docs.search(SearchRequest::new(vec![1.0, 0.0, 0.0], 1)).await?;
//! assert_eq!(hits[0].text, "the cat sat on the mat");
//! store.close().await
//! # }
//! ```

mod actions;
mod audit;
mod backup;
mod breaker;
mod collection;
mod foreground;
mod handoff;
mod index;
mod keys;
mod maintenance;
mod memory;
mod metrics;
mod names;
mod options;
mod points;
mod qdrant;
mod restore;
mod rotation;
mod schedule;
pub mod service;
mod tenant;
mod unreadable;

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::audit::actions::ActionLog;
use crate::audit::log::KeyKeeper;
use crate::crypto::{self, Provider};
use crate::disk::DataDir;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::keys::keystore::HEADER_FILE;
use crate::keys::{Keyring, Keystore, Passphrase, Signers};
use crate::kv::rocks::Rocks;
use crate::kv::{Batch, KvBackend, Table};
use crate::memory::Ledger;
use crate::scrub::{blocking, scrub};
use crate::vectors::edge::Edge;
use crate::vectors::{CollectionContext, HandedOut, JournalPins, ResidentBudget, Router};

pub use audit::Watching;
pub use backup::BackupReport;
pub use breaker::Paused;
pub use collection::{Collection, CollectionStatus};
pub use handoff::{Handoff, Terms};
pub use options::{LogOf, StoreOptions};
pub(crate) use points::{Looked, Looker, passes};
pub use restore::RestoreReport;
pub use tenant::{Tenant, TenantReport};
pub use unreadable::{Unreadable, Why};

/// The layout of everything below the data directory.
const FORMAT_VERSION: u8 = 1;
const FORMAT_KEY: &[u8] = b"format";

/// An open store. Clones share it; the last one to go closes it, [`Store::close`] says whether that went well.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    options: StoreOptions,
    provider: &'static dyn Provider,
    keys: keys::StoreKeys,
    /// Keys of this process that sign tokens.
    signers: Arc<Signers>,
    /// Blinds tenants' names.
    system: Keyring,
    kv: Arc<dyn KvBackend>,
    engine: Router,
    /// Who wants journals whole.
    pins: JournalPins,
    handed: HandedOut,
    budget: ResidentBudget,
    recorder: Arc<audit::Recorder>,
    actions: ActionLog,
    rotations: rotation::Rotations,
    metrics: metrics::Metrics,
    tenants: Arc<Mutex<HashMap<TenantId, Arc<tenant::Open>>>>,
    maintenance: maintenance::Maintenance,
}

impl Store {
    /// Makes a new store: its directories, its keystore under `passphrase`, and nothing else.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) when there is one already.
    pub async fn init(options: &StoreOptions, passphrase: Passphrase) -> Result<()> {
        let options = options.clone();
        blocking(move || {
            let keys = options.keystore_dir();
            if keys.join(HEADER_FILE).try_exists()? {
                return Err(Error::new(ErrorKind::Conflict, "there is a store already")
                    .with_remedy("use it, or choose another directory"));
            }
            fs::create_dir_all(options.data_dir())?;
            // Made apart and moved into place whole, so that a crash leaves no half of a keystore. Moving a directory
            // never replaces one that has something in it.
            let parent = keys.parent().unwrap_or(options.dir());
            fs::create_dir_all(parent)?;
            let apart = tempfile::Builder::new().prefix(".keys-").tempdir_in(parent)?;
            let provider = crypto::default_provider();
            Keystore::create(apart.path(), provider, options.unlock(passphrase), &*options.clock)?;
            fs::rename(apart.keep(), &keys)?;
            Ok(fs::File::open(parent)?.sync_all()?)
        })
        .await
    }

    /// Opens a store, which nobody else may have open.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) where there is none, [`Denied`](ErrorKind::Denied) for a wrong passphrase,
    /// [`Busy`](ErrorKind::Busy) when another process has it open.
    pub async fn open(options: StoreOptions, passphrase: Passphrase) -> Result<Self> {
        blocking(move || {
            let keys = keys::open(&options, crypto::default_provider(), passphrase)?;
            Self::open_with(options, keys)
        })
        .await
    }

    /// Opens a store whose keys are with a key service (the setting `kms`), which nobody else may have open. Its data
    /// directory is made if there is none.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) when the service cannot be reached, [`Denied`](ErrorKind::Denied) when it
    /// does not know this process as a store, [`Busy`](ErrorKind::Busy) when another process has the data open.
    pub async fn connect(options: StoreOptions) -> Result<Self> {
        blocking(move || {
            let keys = keys::connect(&options)?;
            Self::open_with(options, keys)
        })
        .await
    }

    fn open_with(options: StoreOptions, keys: keys::StoreKeys) -> Result<Self> {
        let provider = crypto::default_provider();
        let disk = Arc::new(DataDir::hold(&options.data_dir(), options.min_free_bytes())?);
        let system = Keyring::open(&*keys.data, provider, &TenantId::system())?;
        let recorder = Arc::new(Self::recorder(&options, &keys, provider)?);
        backup::remove_interrupted(&options.data_dir())?;
        let Engines { kv, engine } = Engines::open(&options, &disk)?;
        let finish = qdrant::finish_drops(kv.clone(), engine.clone());
        let signers = Arc::new(keys.signers(provider, options.clock.clone())?);
        let tenants = Arc::default();
        let maintenance = maintenance::Maintenance::start(Arc::clone(&tenants), keys.data.clone(), &options, finish)?;
        let (pins, handed) = (JournalPins::default(), HandedOut::default());
        let budget = ResidentBudget::new(options.resident_bytes());
        let (rotations, metrics) =
            (rotation::Rotations::new(&options)?, metrics::Metrics::new(recorder.alerts(), &budget));
        let actions = ActionLog::new(keys.signing.clone(), provider, options.clock.clone(), recorder.sink().clone());
        recorder.started(&options.data_dir(), &options.config)?;
        let inner = Inner {
            options,
            provider,
            keys,
            signers,
            system,
            kv,
            engine,
            pins,
            handed,
            budget,
            recorder,
            actions,
            rotations,
            metrics,
            tenants,
            maintenance,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Who writes the store's events: into the log of the key service in this process, or one of its own.
    fn recorder(
        options: &StoreOptions,
        keys: &keys::StoreKeys,
        provider: &'static dyn Provider,
    ) -> Result<audit::Recorder> {
        let (watching, pseudonyms) = match &keys.shared {
            Some((watching, keystore)) => (watching.clone(), audit::Pseudonyms::Keystore(keystore.clone())),
            None => {
                let system = Keyring::open(&*keys.data, provider, &TenantId::system())?;
                (keys::watched(options, LogOf::Store, KeyKeeper::File)?, audit::Pseudonyms::Own(Box::new(system)))
            }
        };
        Ok(audit::Recorder::new(watching, options.clock.clone(), provider, pseudonyms))
    }

    /// The tenant called `id`, opened if it is not open yet.
    pub async fn tenant(&self, id: &TenantId) -> Result<Tenant> {
        if let Some(open) = self.inner.tenants.lock().get(id) {
            return Ok(Tenant::new(open.clone()));
        }
        let (inner, id) = (self.inner.clone(), id.clone());
        blocking(move || inner.tenant(&id)).await
    }

    /// Closes a tenant: its keys and indexes are erased from memory. [`Busy`](ErrorKind::Busy) while it is in use.
    pub async fn close_tenant(&self, id: &TenantId) -> Result<()> {
        let (inner, id) = (self.inner.clone(), id.clone());
        blocking(move || {
            let _kept_out = inner.maintenance.keep_out();
            let Some(open) = inner.tenants.lock().get(&id).cloned() else {
                // One that maintenance has closed may still be ready in the key service.
                inner.keys.data.forget(&id);
                return Ok(());
            };
            open.close()?;
            let mut tenants = inner.tenants.lock();
            // Maintenance may have let go of it meanwhile, and somebody have opened it again.
            let reopened = tenants.get(&id).is_some_and(|listed| !Arc::ptr_eq(listed, &open));
            // The list's and ours: any more is somebody's handle.
            if reopened || Arc::strong_count(&open) > 2 {
                return Err(Error::new(ErrorKind::Busy, "the tenant is in use")
                    .with_remedy("drop its tenant and collection handles first, then try again"));
            }
            tenants.remove(&id);
            inner.keys.data.forget(&id);
            Ok(())
        })
        .await?;
        // Memories are read on the caller's own thread.
        scrub();
        Ok(())
    }

    /// Where its data is, in a directory that nobody else may use.
    pub(crate) fn data_dir(&self) -> std::path::PathBuf {
        self.inner.options.data_dir()
    }

    /// The implementation of the algorithms in use.
    pub fn provider(&self) -> &'static str {
        self.inner.provider.name()
    }

    /// Flushes and closes everything, and waits up to a minute for an optimisation under way. Tenants and collections that
    /// are still held stop being maintained.
    pub async fn close(self) -> Result<()> {
        let inner = self.inner;
        blocking(move || {
            inner.maintenance.stop();
            inner.rotations.throttle.stop();
            let open: Vec<_> = inner.tenants.lock().drain().map(|(_, open)| open).collect();
            open.iter().for_each(|tenant| drop(tenant.rotating.lock()));
            // Whatever fails, the others are closed.
            let closed: Vec<Result<()>> = open.iter().map(|tenant| tenant.close()).collect();
            let synced = inner.kv.sync();
            let stopped = inner.recorder.stopped();
            drop(open);
            inner.maintenance.wait_for_optimizing();
            synced?;
            closed.into_iter().collect::<Result<()>>()?;
            stopped
        })
        .await
    }
}

impl Inner {
    fn tenant(&self, id: &TenantId) -> Result<Tenant> {
        // Opened while the list is held, so that a tenant is never open twice.
        let mut tenants = self.tenants.lock();
        if let Some(open) = tenants.get(id) {
            return Ok(Tenant::new(open.clone()));
        }
        let open = Arc::new(self.open_tenant(id)?);
        tenants.insert(id.clone(), open.clone());
        Ok(Tenant::new(open))
    }

    fn open_tenant(&self, id: &TenantId) -> Result<tenant::Open> {
        let tag = self.tenant_tag(id)?;
        let ledger = Arc::new(Ledger::new(self.kv.clone(), tag));
        let keyring = Arc::new(Keyring::open(&*self.keys.data, self.provider, id)?.counted(ledger));
        names::remember(&*self.kv, &self.system, &tag, id)?;
        let context = CollectionContext {
            keyring,
            kv: self.kv.clone(),
            engine: self.engine.clone(),
            lock_policy: self.options.config.memory_lock,
            graph_from: self.options.graph_from(),
            pins: self.pins.clone(),
            handed: self.handed.clone(),
            budget: self.budget.clone(),
        };
        let minting = handoff::Minting { signers: self.signers.clone(), clock: self.options.clock.clone() };
        let book = Arc::new(audit::Book::open(self.recorder.clone(), id)?);
        let open = tenant::Open::new(tag, context, minting, self.rotations.foreground.clone(), book)?;
        open.rotation(&*self.keys.data, &*self.options.clock).settle()?;
        Ok(open)
    }

    /// What the database knows a tenant by.
    fn tenant_tag(&self, id: &TenantId) -> Result<[u8; 16]> {
        names::tag(&self.system, id)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.maintenance.stop();
    }
}

/// The engines below a data directory.
struct Engines {
    kv: Arc<dyn KvBackend>,
    engine: Router,
}

impl Engines {
    /// Opens them below `disk` and at the server that `options` name, with nothing in them that an interrupted change left.
    fn open(options: &StoreOptions, disk: &Arc<DataDir>) -> Result<Self> {
        let Self { kv, engine } = Self::below(options, disk)?;
        let engine = qdrant::beside(engine, options, &*kv)?;
        crate::vectors::finish_drops(&*kv, &engine)?;
        crate::vectors::clear_leavings(&*kv, &engine)?;
        Ok(Self { kv, engine })
    }

    /// Opens a copy below `disk`. Whatever its original has at a server is left alone.
    fn open_copy(options: &StoreOptions, disk: &Arc<DataDir>) -> Result<Self> {
        let engines = Self::below(options, disk)?;
        crate::vectors::forget_places(&*engines.kv)?;
        crate::vectors::finish_drops(&*engines.kv, &engines.engine)?;
        Ok(engines)
    }

    fn below(options: &StoreOptions, disk: &Arc<DataDir>) -> Result<Self> {
        let rocks = Rocks::open(
            &disk.subdir("db")?,
            disk.clone(),
            options.cache_bytes(),
            options.clock.clone(),
            crate::vectors::expired,
        )?;
        let kv: Arc<dyn KvBackend> = Arc::new(rocks);
        let engine = Arc::new(Edge::new(disk.subdir("shards")?, disk.clone()));
        check_format(&*kv, &engine)?;
        Ok(Self { kv, engine: engine.into() })
    }
}

fn check_format(kv: &dyn KvBackend, engine: &Edge) -> Result<()> {
    match kv.get(Table::Meta, FORMAT_KEY)?.as_deref() {
        Some([FORMAT_VERSION]) => Ok(()),
        Some([newer]) if *newer > FORMAT_VERSION => {
            Err(Error::invalid(format!("the data directory has format {newer}, this program knows {FORMAT_VERSION}"))
                .with_remedy("use a newer release"))
        }
        Some(_) => Err(Error::integrity("the format of the data directory")),
        None if !engine.collections()?.is_empty() => {
            Err(Error::integrity("a data directory with collections and an empty database")
                .with_remedy("`db` is missing or not mounted: bring it back, or restore the whole data directory"))
        }
        None => {
            let mut batch = Batch::default();
            batch.put(Table::Meta, FORMAT_KEY, [FORMAT_VERSION]);
            kv.write(batch)?;
            kv.sync()
        }
    }
}
