//! What the endpoint does: the one layer that both interfaces translate to.
//!
//! A [`Session`] is an API key at work. Whatever it reaches, it reaches through [`Session::readable`],
//! [`Session::writable`] or [`Session::may_manage`], which look at what the key may do and at whose it is.

mod ask;
mod collections;
mod groups;
mod order;
mod payload;
mod read;
mod update;
mod values;
mod vectors;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::apikey::{ApiKey, ApiKeys, KeyRole, Noted};
use super::failure::{Answer, Code, Failure};
use super::gate::Places;
use super::model::points::{UpdateResult, UpdateStatus};
use crate::audit::{AuditSink, Reason};
use crate::error::{ErrorKind, Result};
use crate::id::shown;
use crate::store::{Collection, Store, Tenant};
use crate::vectors::CollectionId;

/// What all calls share.
pub(super) struct Service {
    store: Store,
    /// Writes that were answered, of all tenants: what their number tells is little, and of nobody.
    operations: AtomicU64,
    /// Held by whoever changes points of a collection by what they are: not needed for that to be right, but so that two
    /// of them need not try again and again.
    changing: Turns,
    /// Held by whoever declares a field of a collection: engine and notes say the same, and who waits holds no thread.
    declaring: Turns,
}

/// Who comes first at a collection.
#[derive(Default)]
struct Turns(Mutex<HashMap<CollectionId, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    async fn take(&self, id: CollectionId) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock();
            // Those that nobody holds or waits for are made again.
            if turns.len() > 1024 {
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            turns.entry(id).or_default().clone()
        };
        turn.lock_owned().await
    }
}

/// An API key at work.
#[derive(Clone)]
pub(super) struct Session {
    service: Arc<Service>,
    key: Arc<ApiKey>,
    _places: Places,
}

impl Service {
    pub(super) fn new(store: Store) -> Self {
        Self { store, operations: AtomicU64::new(0), changing: Turns::default(), declaring: Turns::default() }
    }

    pub(super) fn audit(&self) -> Arc<dyn AuditSink> {
        self.store.audit()
    }

    /// What the audit log knows of the API keys.
    pub(super) fn noted_keys(&self) -> Noted {
        Noted::load(&self.store.data_dir())
    }

    /// Has the audit log know `keys` as they are, before they open anything.
    pub(super) fn note_keys(&self, noted: &mut Noted, keys: &ApiKeys) -> Result<()> {
        noted.note(keys, |tenant| self.store.pseudonym(tenant), |changes| self.store.changed(changes))
    }

    pub(super) fn store_metrics(&self) -> String {
        self.store.metrics()
    }

    /// The answer to a write that was made.
    fn done(&self, status: UpdateStatus) -> UpdateResult {
        UpdateResult { operation_id: self.operations.fetch_add(1, Ordering::Relaxed), status }
    }
}

impl Session {
    pub(super) fn new(service: Arc<Service>, key: Arc<ApiKey>, places: Places) -> Self {
        Self { service, key, _places: places }
    }

    /// The tenant whose key it is.
    async fn tenant(&self) -> Answer<Tenant> {
        let id = self.key.tenant().ok_or_else(|| self.refused("reads metrics and nothing else"))?;
        match self.service.store.tenant(id).await {
            Ok(tenant) => Ok(tenant.asked_by(self.key.caller())),
            // A key outlives its tenant.
            Err(e) if e.kind() == ErrorKind::NotFound => {
                Err(Failure::new(Code::Forbidden, "the tenant of this API key is not there"))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// The answer to what the key may not, once that is written down.
    fn refused(&self, why: &str) -> Failure {
        match self.service.store.refused(self.key.caller(), self.key.tenant(), Reason::Role) {
            Ok(()) => Failure::new(Code::Forbidden, format!("this API key {why}")),
            Err(e) => e.into(),
        }
    }

    fn needs(&self, role: KeyRole) -> Answer<()> {
        if self.key.role() >= role {
            return Ok(());
        }
        Err(self.refused(&format!("has the role `{}`; this needs `{}`", self.key.role().as_str(), role.as_str())))
    }

    /// Refuses who may not make, change or drop collections.
    pub(super) fn may_manage(&self) -> Answer<()> {
        self.needs(KeyRole::Manage)
    }

    /// Refuses who may not write points at all, before the rest of a request is read.
    pub(super) fn may_write(&self, _name: &str) -> Answer<()> {
        self.needs(KeyRole::Write)
    }

    /// The collection called `name`, by its own name or an alias, to read.
    async fn readable(&self, name: &str) -> Answer<Collection> {
        self.needs(KeyRole::Read)?;
        self.resolve(&self.tenant().await?, name)
    }

    /// The same to write.
    async fn writable(&self, name: &str) -> Answer<Collection> {
        self.needs(KeyRole::Write)?;
        self.resolve(&self.tenant().await?, name)
    }

    fn resolve(&self, tenant: &Tenant, name: &str) -> Answer<Collection> {
        // The same words for what is not there and for what the key does not cover.
        self.find(tenant, name).ok_or_else(|| no_collection(name))
    }

    fn find(&self, tenant: &Tenant, name: &str) -> Option<Collection> {
        let found = match tenant.collection(name) {
            Ok(found) => Some(found),
            Err(_) => {
                let notes = tenant.notes();
                let id = notes.alias(name)?;
                tenant.collections().into_iter().find(|collection| collection.id().to_string() == id)
            }
        };
        found.filter(|collection| self.key.covers(collection.name()))
    }
}

/// There is nothing of this name, or nothing that the caller may know of. In Qdrant's words, which some clients look for.
fn no_collection(name: &str) -> Failure {
    Failure::not_found(format!("Not found: Collection `{}` doesn't exist!", shown(name)))
}
