//! The breaker: pauses what a tenant's keys open, until somebody lets it go on. It holds over restarts.
//!
//! Whoever opens records for others keeps a [`Gate`] for the tenant and asks it before every answer: one look at one
//! number in memory. A tenant is known here by its pseudonym alone.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::audit::{AuditSink, Event, Outcome, What};
use crate::clock::Clock;
use crate::disk;
use crate::error::{Error, ErrorKind, Result};
use crate::keys::kms::Role;
use crate::limits;

/// The file in the directory that the breaker is kept in.
const BREAKER_FILE: &str = "breaker.json";
const VERSION: u8 = 1;
/// Largest such file, in bytes.
const FILE_BYTES: u64 = (limits::BREAKERS * 512) as u64;

/// Who trips or releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The service.
    pub service: String,
    /// Its role.
    pub role: Option<Role>,
}

/// A tenant whose reads are paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trip {
    /// Since when: Unix time in milliseconds.
    pub since_ms: u64,
    /// `operator`, or the rule that did it.
    pub cause: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    v: u8,
    tripped: BTreeMap<String, Trip>,
}

/// Which tenants' reads are paused.
pub struct Breaker {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    audit: Arc<dyn AuditSink>,
    /// Held while a change is recorded and written.
    tripped: Mutex<BTreeMap<String, Trip>>,
    gates: Mutex<HashMap<String, Arc<AtomicBool>>>,
    count: AtomicUsize,
}

/// Whether the reads of one tenant are paused.
#[derive(Clone, Default)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    /// Refuses while the tenant's reads are paused.
    ///
    /// # Errors
    ///
    /// [`Denied`](ErrorKind::Denied).
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Acquire) { Err(paused()) } else { Ok(()) }
    }

    /// Whether they are.
    pub fn is_tripped(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What somebody is told whose reads are paused.
pub fn paused() -> Error {
    Error::new(ErrorKind::Denied, "the tenant's reads are paused").with_remedy(
        "`strongroom breaker list` shows since when and why; when that is cleared up, an operator lets them go on with \
         `strongroom breaker release`",
    )
}

impl Breaker {
    /// The breaker in `dir`, which one process works with at a time. What was tripped is tripped.
    ///
    /// # Errors
    ///
    /// [`Integrity`](ErrorKind::Integrity) for a file that is not what was written: nobody may go on reading because of
    /// that.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>, audit: Arc<dyn AuditSink>) -> Result<Arc<Self>> {
        let path = dir.join(BREAKER_FILE);
        let tripped = match fs::metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(e) => return Err(e.into()),
            Ok(found) if found.len() > FILE_BYTES => return Err(damaged(&path)),
            Ok(_) => {
                let stored: Stored = serde_json::from_slice(&fs::read(&path)?).map_err(|_| damaged(&path))?;
                if stored.v != VERSION || stored.tripped.len() > limits::BREAKERS {
                    return Err(damaged(&path));
                }
                stored.tripped
            }
        };
        let gates = tripped.keys().map(|tenant| (tenant.clone(), Arc::new(AtomicBool::new(true)))).collect();
        let count = AtomicUsize::new(tripped.len());
        Ok(Arc::new(Self { path, clock, audit, tripped: Mutex::new(tripped), gates: Mutex::new(gates), count }))
    }

    /// The gate of a tenant, which shows every change from now on.
    pub fn gate(&self, tenant: &str) -> Gate {
        let mut gates = self.gates.lock();
        if gates.len() >= limits::BREAKERS {
            // Nobody looks at them, and they say nothing.
            gates.retain(|_, gate| Arc::strong_count(gate) > 1 || gate.load(Ordering::Acquire));
        }
        Gate(gates.entry(tenant.to_owned()).or_default().clone())
    }

    /// The tenants whose reads are paused, by pseudonym.
    pub fn list(&self) -> BTreeMap<String, Trip> {
        self.tripped.lock().clone()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Pauses a tenant's reads, and says whether they were not paused yet. It holds from the moment it is called, even if
    /// it cannot be written down: then the error says so.
    pub fn trip(&self, who: &Operator, tenant: &str, cause: &str) -> Result<bool> {
        let mut tripped = self.tripped.lock();
        if tripped.contains_key(tenant) {
            return Ok(false);
        }
        self.gate(tenant).0.store(true, Ordering::Release);
        if tripped.len() >= limits::BREAKERS {
            return Err(Error::new(ErrorKind::Unavailable, "too many tenants' reads are paused to write down another")
                .with_remedy("they are paused until this process ends; release others first"));
        }
        let what = || What::BreakerTripped { cause: cause.to_owned() };
        // It has to hold even when that cannot be written down: the last word decides.
        drop(self.record(who, tenant, what(), Outcome::Begun));
        let trip = Trip { since_ms: self.clock.now_ms(), cause: cause.to_owned() };
        tripped.insert(tenant.to_owned(), trip);
        self.count.store(tripped.len(), Ordering::Relaxed);
        let written = self.write(&tripped);
        self.record(who, tenant, what(), Outcome::of(&written))?;
        written.map(|()| true)
    }

    /// Lets a tenant's reads go on, and says whether they were paused. Nothing changes that cannot be written down.
    pub fn release(&self, who: &Operator, tenant: &str) -> Result<bool> {
        let mut tripped = self.tripped.lock();
        if !tripped.contains_key(tenant) {
            return Ok(false);
        }
        self.record(who, tenant, What::BreakerReleased, Outcome::Begun)?;
        let mut left = tripped.clone();
        left.remove(tenant);
        let written = self.write(&left);
        self.record(who, tenant, What::BreakerReleased, Outcome::of(&written))?;
        written?;
        *tripped = left;
        self.count.store(tripped.len(), Ordering::Relaxed);
        self.gate(tenant).0.store(false, Ordering::Release);
        Ok(true)
    }

    fn write(&self, tripped: &BTreeMap<String, Trip>) -> Result<()> {
        let stored = Stored { v: VERSION, tripped: tripped.clone() };
        let json = serde_json::to_vec(&stored).map_err(|e| Error::internal("encoding").with_source(e))?;
        disk::replace(&self.path, &json)
    }

    fn record(&self, who: &Operator, tenant: &str, what: What, outcome: Outcome) -> Result<()> {
        let mut event = Event::new(self.clock.now_ms(), &who.service, what, outcome).tenant(tenant);
        event.role = who.role;
        self.audit.record(&event)
    }
}

fn damaged(path: &Path) -> Error {
    Error::integrity(format!("`{}`", path.display())).with_remedy(
        "it says whose reads are paused: look into the audit log for `breaker-tripped`, then remove the file and trip \
         those again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::InMemory;
    use crate::clock::ManualClock;

    fn who() -> Operator {
        Operator { service: "ops".into(), role: Some(Role::Admin) }
    }

    fn open(dir: &Path, audit: &Arc<InMemory>) -> Result<Arc<Breaker>> {
        Breaker::open(dir, Arc::new(ManualClock::at(7)), audit.clone())
    }

    #[test]
    fn a_trip_holds_until_it_is_released_whoever_asks() {
        let (dir, audit) = (tempfile::tempdir().unwrap(), Arc::<InMemory>::default());
        let breaker = open(dir.path(), &audit).unwrap();
        let (early, other) = (breaker.gate("a"), breaker.gate("b"));
        assert!(breaker.trip(&who(), "a", "operator").unwrap());
        assert!(!breaker.trip(&who(), "a", "operator").unwrap(), "it is already");
        assert!(early.is_tripped() && breaker.gate("a").check().is_err() && other.check().is_ok());
        let again = open(dir.path(), &audit).unwrap();
        assert_eq!(again.list(), [("a".to_owned(), Trip { since_ms: 7, cause: "operator".into() })].into());
        let gate = again.gate("a");
        assert_eq!(gate.check().err().unwrap().kind(), ErrorKind::Denied);
        assert!(again.release(&who(), "a").unwrap() && gate.check().is_ok());
        assert!(!again.release(&who(), "a").unwrap());
        assert!(open(dir.path(), &audit).unwrap().list().is_empty());
        let outcomes: Vec<_> = audit.events().iter().map(|e| e.outcome).collect();
        assert_eq!(outcomes, [Outcome::Begun, Outcome::Done, Outcome::Begun, Outcome::Done]);
    }

    #[test]
    fn a_damaged_file_lets_nobody_read_on() {
        let (dir, audit) = (tempfile::tempdir().unwrap(), Arc::<InMemory>::default());
        for bad in ["", "{}", "{\"v\":2,\"tripped\":{}}", "{\"v\":1,\"tripped\":{},\"more\":1}"] {
            fs::write(dir.path().join(BREAKER_FILE), bad).unwrap();
            assert_eq!(open(dir.path(), &audit).err().unwrap().kind(), ErrorKind::Integrity, "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_written_trips_all_the_same_and_releases_nothing() {
        let (dir, audit) = (tempfile::tempdir().unwrap(), Arc::<InMemory>::default());
        let breaker = open(dir.path(), &audit).unwrap();
        breaker.trip(&who(), "a", "operator").unwrap();
        drop(dir);
        assert!(breaker.trip(&who(), "b", "cross-tenant").is_err());
        assert!(breaker.gate("b").is_tripped());
        assert!(breaker.release(&who(), "a").is_err());
        assert!(breaker.gate("a").is_tripped());
        assert_eq!(audit.events().last().unwrap().outcome, Outcome::Failed);
    }
}
