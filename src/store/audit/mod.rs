//! What a store writes into the audit log: every read before it is answered, every write before it is made, every change
//! of a whole before and after. A log that cannot be written refuses what was asked.

mod desk;
mod lookups;
mod watching;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::audit::alert::{Alerts, Gate, Operator};
use crate::audit::{AuditSink, Event, Outcome, Reason, What};
use crate::clock::Clock;
use crate::config::Config;
use crate::crypto::{self, Provider};
use crate::disk;
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::keys::kms::{Caller, Role};
use crate::keys::{Keyring, Keystore};

use super::{Store, names};

pub(super) use desk::{Book, Desk};
pub use watching::Watching;

/// The name under which the store's own calls stand in the audit log.
pub(super) const SERVICE: &str = "store";
/// The file with the digest of the configuration at the last start.
const CONFIGURATION_FILE: &str = "configuration.sha256";

/// On whose behalf something is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asker {
    service: String,
    role: Role,
}

impl Asker {
    /// The program that has the store open.
    pub(super) fn own() -> Self {
        Self { service: SERVICE.to_owned(), role: Role::Store }
    }

    pub(super) fn of(caller: &Caller) -> Self {
        Self { service: caller.service().to_owned(), role: caller.role() }
    }

    pub(super) fn operator(&self) -> Operator {
        Operator { service: self.service.clone(), role: Some(self.role) }
    }
}

/// How tenants are called in the log.
pub(super) enum Pseudonyms {
    /// As the keystore in this process calls them: the key service writes into the same log.
    Keystore(Arc<Keystore>),
    /// As the database calls them, by a key of the store's own.
    Own(Box<Keyring>),
}

impl Pseudonyms {
    fn of(&self, tenant: &TenantId) -> Result<String> {
        match self {
            Self::Keystore(keystore) => Ok(keystore.pseudonym(tenant)),
            Self::Own(system) => Ok(crate::audit::hex(&names::tag(system, tenant)?)),
        }
    }
}

/// Writes a store's events.
pub(super) struct Recorder {
    watching: Watching,
    clock: Arc<dyn Clock>,
    provider: &'static dyn Provider,
    pseudonyms: Pseudonyms,
}

impl Recorder {
    pub(super) fn new(
        watching: Watching,
        clock: Arc<dyn Clock>,
        provider: &'static dyn Provider,
        pseudonyms: Pseudonyms,
    ) -> Self {
        Self { watching, clock, provider, pseudonyms }
    }

    pub(super) fn sink(&self) -> &Arc<dyn AuditSink> {
        &self.watching.sink
    }

    pub(super) fn alerts(&self) -> &Arc<Alerts> {
        &self.watching.alerts
    }

    /// What the log calls a tenant.
    pub(super) fn pseudonym(&self, tenant: &TenantId) -> Result<String> {
        self.pseudonyms.of(tenant)
    }

    /// Whether the tenant's reads are paused.
    pub(super) fn gate(&self, tenant: &TenantId) -> Result<Gate> {
        Ok(self.watching.alerts.breaker().gate(&self.pseudonym(tenant)?))
    }

    pub(super) fn record(&self, asker: &Asker, tenant: Option<&str>, what: What, outcome: Outcome) -> Result<()> {
        let mut event = Event::new(self.clock.now_ms(), &asker.service, what, outcome);
        event.role = Some(asker.role);
        event.tenant = tenant.map(str::to_owned);
        self.watching.sink.record(&event)
    }

    /// Does `work` once the log says that it is `begun`, and reveals what came of it once the log says how it `ended`.
    pub(super) fn change<T>(
        &self,
        asker: &Asker,
        tenant: Option<&str>,
        begun: What,
        work: impl FnOnce() -> Result<T>,
        ended: impl FnOnce(Option<&T>) -> What,
    ) -> Result<T> {
        self.record(asker, tenant, begun, Outcome::Begun)?;
        let done = work();
        self.record(asker, tenant, ended(done.as_ref().ok()), Outcome::of(&done))?;
        done
    }

    /// A store was opened, with this configuration. `dir` remembers it.
    pub(super) fn started(&self, dir: &Path, config: &Config) -> Result<()> {
        let what = started(dir, config)?;
        self.record(&Asker::own(), None, what, Outcome::Done)
    }

    /// It was closed, and so is its log.
    pub(super) fn stopped(&self) -> Result<()> {
        let stopped = self.record(&Asker::own(), None, What::Stopped, Outcome::Done);
        self.watching.close();
        stopped
    }
}

impl Store {
    /// Writes down that a caller was refused, before it is told so.
    pub(crate) fn refused(&self, caller: &Caller, tenant: Option<&TenantId>, reason: Reason) -> Result<()> {
        let recorder = &self.inner.recorder;
        let tenant = tenant.map(|tenant| recorder.pseudonym(tenant)).transpose()?;
        recorder.record(&Asker::of(caller), tenant.as_deref(), What::Refused { reason }, Outcome::Refused)
    }

    /// What the log calls a tenant.
    pub(crate) fn pseudonym(&self, tenant: &TenantId) -> Result<String> {
        self.inner.recorder.pseudonym(tenant)
    }

    /// Writes down all of what has changed of what serves this store, each with the pseudonym of the tenant that it is about.
    pub(crate) fn changed(&self, changes: &[(Option<String>, What)]) -> Result<()> {
        let recorder = &self.inner.recorder;
        let event = |(tenant, what): &(Option<String>, What)| {
            let own = Asker::own();
            let mut event = Event::new(recorder.clock.now_ms(), &own.service, what.clone(), Outcome::Done);
            event.role = Some(own.role);
            event.tenant.clone_from(tenant);
            event
        };
        recorder.watching.sink.record_all(&changes.iter().map(event).collect::<Vec<_>>())
    }

    /// The audit log: for what serves this store.
    pub fn audit(&self) -> Arc<dyn AuditSink> {
        self.inner.recorder.sink().clone()
    }

    /// Who watches it.
    pub fn alerts(&self) -> Arc<Alerts> {
        self.inner.recorder.alerts().clone()
    }
}

/// The event of a start with `config`, which `dir` remembers for the next.
pub(super) fn started(dir: &Path, config: &Config) -> Result<What> {
    let json = serde_json::to_vec(config).map_err(|e| Error::internal("encoding").with_source(e))?;
    let configuration = crate::audit::hex(&crypto::default_provider().sha256(&[&json]));
    let path = dir.join(CONFIGURATION_FILE);
    let before = match fs::read_to_string(&path) {
        Ok(before) => Some(before),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        // What cannot be read is another.
        Err(_) => Some(String::new()),
    };
    let changed = before.map(|before| before.trim() != configuration);
    if changed != Some(false) {
        disk::replace(&path, configuration.as_bytes())?;
    }
    Ok(What::Started { program: env!("CARGO_PKG_VERSION").to_owned(), configuration, changed })
}
