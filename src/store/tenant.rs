//! A tenant: its collections and its memories.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use crate::audit::{self, CollectionChange, What};
use crate::clock::Clock;
use crate::error::Result;
use crate::id::{Name, TenantId};
use crate::keys::kms::Caller;
use crate::keys::{DataKeys, Keyring};
use crate::memory::{Memories, MemoryContext, MemoryReport};
use crate::rotation;
use crate::scrub::scrub_workers;
use crate::vectors::{self, Catalog, CollectionContext, CollectionReport, CollectionSpec, Engine, Migration, Mode};

use super::audit::{Asker, Book, Desk};
use super::foreground::Foreground;
use super::handoff::Minting;
use super::{Collection, blocking};

/// A tenant of an open store. Clones share it.
#[derive(Clone)]
pub struct Tenant {
    pub(super) open: Arc<Open>,
    pub(super) desk: Desk,
}

/// What is in memory of an open tenant.
pub(super) struct Open {
    pub(super) catalog: Arc<Catalog>,
    pub(super) memories: Memories,
    pub(super) minting: Minting,
    pub(super) foreground: Arc<Foreground>,
    pub(super) book: Arc<Book>,
    /// Held while the tenant is rotated.
    pub(super) rotating: Mutex<()>,
    tag: [u8; 16],
    context: CollectionContext,
    made: Instant,
    used_ms: AtomicU64,
}

/// What [`Tenant::verify`] found.
#[derive(Debug, Default, Clone, Serialize)]
pub struct TenantReport {
    /// Each collection by name.
    pub collections: BTreeMap<String, CollectionReport>,
    /// The embeddings of memories, if there are any.
    pub memory_embeddings: Option<CollectionReport>,
    /// The memories.
    pub memories: MemoryReport,
}

impl TenantReport {
    /// Whether everything is as it was written.
    pub fn is_clean(&self) -> bool {
        self.memories.is_clean()
            && self.collections.values().chain(&self.memory_embeddings).all(CollectionReport::is_clean)
    }
}

impl Open {
    pub(super) fn new(
        tenant_tag: [u8; 16],
        context: CollectionContext,
        minting: Minting,
        foreground: Arc<Foreground>,
        book: Arc<Book>,
    ) -> Result<Self> {
        let clock = minting.clock.clone();
        let catalog = Arc::new(Catalog::open(tenant_tag, context.clone())?);
        let memories = Memories::new(
            tenant_tag,
            MemoryContext { keyring: context.keyring.clone(), kv: context.kv.clone(), clock, catalog: catalog.clone() },
        );
        Ok(Self {
            catalog,
            memories,
            minting,
            foreground,
            book,
            rotating: Mutex::new(()),
            tag: tenant_tag,
            context,
            made: Instant::now(),
            used_ms: AtomicU64::new(0),
        })
    }

    pub(super) fn keyring(&self) -> &Keyring {
        &self.context.keyring
    }

    pub(super) fn rotation<'a>(&'a self, data: &'a dyn DataKeys, clock: &'a dyn Clock) -> rotation::Tenant<'a> {
        rotation::Tenant {
            tag: &self.tag,
            keyring: &self.context.keyring,
            catalog: &self.catalog,
            memories: &self.memories,
            kv: &*self.context.kv,
            data,
            clock,
        }
    }

    pub(super) fn close(&self) -> Result<()> {
        self.minting.signers.forget(self.keyring().tenant());
        let closed: Vec<Result<bool>> = self.catalog.all().iter().map(|collection| collection.close()).collect();
        let written = self.book.flush();
        closed.into_iter().try_for_each(|closed| closed.map(|_| ()))?;
        written
    }

    pub(super) fn idle(&self) -> Duration {
        self.made.elapsed().saturating_sub(Duration::from_millis(self.used_ms.load(Ordering::Relaxed)))
    }

    fn touch(&self) {
        let now = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used_ms.store(now, Ordering::Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        scrub_workers();
    }
}

impl Tenant {
    pub(super) fn new(open: Arc<Open>) -> Self {
        open.touch();
        let desk = Desk::new(open.book.clone(), Asker::own());
        Self { open, desk }
    }

    /// The same for another who asks: their name stands in the audit log.
    pub(crate) fn asked_by(self, caller: &Caller) -> Self {
        let desk = Desk::new(self.open.book.clone(), Asker::of(caller));
        Self { desk, ..self }
    }

    fn hold(&self, collection: Arc<vectors::Collection>) -> Collection {
        Collection::new(collection, self.open.clone(), self.desk.clone())
    }

    /// Its id.
    pub fn id(&self) -> &TenantId {
        self.open.context.keyring.tenant()
    }

    /// Makes a collection.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) when there is one with this name.
    pub async fn create_collection(&self, name: &str, spec: CollectionSpec) -> Result<Collection> {
        let (tenant, name) = (self.clone(), name.parse::<Name>()?);
        blocking(move || {
            let (change, mode) = (CollectionChange::Made, Some(spec.mode));
            let made = |place| What::CollectionChanged { change, place, mode };
            let create = || tenant.open.catalog.create(&name, spec);
            let ended =
                |created: Option<&Arc<vectors::Collection>>| made(created.map(|c| audit::hex(c.id().as_bytes())));
            Ok(tenant.hold(tenant.desk.change(made(None), create, ended)?))
        })
        .await
    }

    /// The collection called `name`.
    pub fn collection(&self, name: &str) -> Result<Collection> {
        self.open.touch();
        Ok(self.hold(self.open.catalog.get(&name.parse()?)?))
    }

    /// Its collections, in the order of their names.
    pub fn collections(&self) -> Vec<Collection> {
        self.open.catalog.list().into_iter().map(|collection| self.hold(collection)).collect()
    }

    /// Drops the collection called `name` and everything in it.
    pub async fn drop_collection(&self, name: &str) -> Result<()> {
        let (tenant, name) = (self.clone(), name.parse::<Name>()?);
        blocking(move || {
            let place = Some(audit::hex(tenant.open.catalog.get(&name)?.id().as_bytes()));
            let dropped =
                || What::CollectionChanged { change: CollectionChange::Dropped, place: place.clone(), mode: None };
            tenant.desk.change(dropped(), || tenant.open.catalog.drop_collection(&name), |_| dropped())
        })
        .await
    }

    /// Moves the collection called `name` to another engine or placement, while everybody goes on reading and writing:
    /// everything is copied, opened there, and only then removed where it was. A move that was interrupted is taken up
    /// again by asking for the same; asking for the engine that the collection is in ends it.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable) when an engine is away, [`Integrity`](crate::ErrorKind::Integrity)
    /// when a record is not what was written. The collection then is where it was, as it was.
    pub async fn migrate_collection(
        &self,
        name: &str,
        engine: Engine,
        mut progress: impl FnMut(Migration) + Send + 'static,
    ) -> Result<Migration> {
        let (tenant, name) = (self.clone(), name.parse::<Name>()?);
        blocking(move || {
            let place = Some(audit::hex(tenant.open.catalog.get(&name)?.id().as_bytes()));
            let moved =
                || What::CollectionChanged { change: CollectionChange::Moved, place: place.clone(), mode: None };
            let migrate = || tenant.open.catalog.migrate(&name, engine, &mut progress);
            tenant.desk.change(moved(), migrate, |_| moved())
        })
        .await
    }

    /// Protects the embeddings of the collection called `name` by another mode, while everybody goes on reading and writing:
    /// the engine is given another copy, with what it is to have in that mode, everything in it is opened, and then the
    /// old one is removed, with what the journal has of it. Reads are answered by the old mode until then. A change that
    /// was interrupted is taken up again by asking for the same; asking for the mode that the collection has ends it.
    ///
    /// While a backup is made the change waits at its end. What backups and snapshots made before have stays in them.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the collection cannot have that mode; otherwise as
    /// [`migrate_collection`](Self::migrate_collection).
    pub async fn change_mode(
        &self,
        name: &str,
        mode: Mode,
        mut progress: impl FnMut(Migration) + Send + 'static,
    ) -> Result<Migration> {
        let (tenant, name) = (self.clone(), name.parse::<Name>()?);
        blocking(move || {
            let place = Some(audit::hex(tenant.open.catalog.get(&name)?.id().as_bytes()));
            let change = CollectionChange::ModeChanged;
            let changed = || What::CollectionChanged { change, place: place.clone(), mode: Some(mode) };
            let update = || tenant.open.catalog.change_mode(&name, mode, &mut progress);
            tenant.desk.change(changed(), update, |_| changed())
        })
        .await
    }

    /// Opens every record of the tenant and compares it with the registry. Writes wait meanwhile; `progress` is told
    /// how many points were looked at.
    pub async fn verify(&self, mut progress: impl FnMut(u64) + Send + 'static) -> Result<TenantReport> {
        let open = self.open.clone();
        blocking(move || {
            let mut report = TenantReport { memories: open.memories.verify()?, ..TenantReport::default() };
            let mut before = 0;
            for collection in open.catalog.all() {
                let mut seen = 0;
                let found = collection.verify(|points| {
                    seen = points;
                    progress(before + points);
                })?;
                before += seen;
                match collection.kind() {
                    crate::vectors::CollectionKind::Chunks => {
                        report.collections.insert(collection.name().to_owned(), found);
                    }
                    crate::vectors::CollectionKind::Memories => report.memory_embeddings = Some(found),
                }
            }
            Ok(report)
        })
        .await
    }
}
