//! The keys of one open tenant: derived on demand, kept in memory while the tenant is open, gone when it is dropped or
//! when their epoch is destroyed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use crate::crypto::{self, MacKey, Provider, SuiteId};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, TenantId};
use crate::record::{SealLedger, SealingKey};
use crate::secret::Secret;
use crate::vectors::Veil;

use super::{DataKeys, EpochKeys, EpochState, Label, TenantRecord};

/// Derives and keeps the data keys of one tenant.
pub struct Keyring {
    tenant: TenantId,
    provider: &'static dyn Provider,
    /// Where the seals of keys that need it are counted.
    ledger: Option<Arc<dyn SealLedger>>,
    state: RwLock<State>,
    /// Held by every write, so that the epoch that seals changes between two writes only.
    writing: RwLock<()>,
    /// Held from asking which epochs there are until that is taken over.
    refreshing: Mutex<()>,
    sealing: Derived<(Label, Epoch), SealingKey>,
    blinding: Derived<Epoch, dyn MacKey>,
    veils: Derived<Epoch, Veil>,
}

/// Keys by what they were derived for, and then by scope: looked up for every record, so without making a key of both.
type Derived<K, V> = RwLock<HashMap<K, HashMap<Box<[u8]>, Arc<V>>>>;

struct State {
    live: Live,
    epochs: HashMap<Epoch, Arc<OpenEpoch>>,
    destroyed: BTreeSet<Epoch>,
    /// Epochs that open, and that nothing stored is sealed in any more.
    drained: BTreeSet<Epoch>,
}

struct OpenEpoch {
    suite: SuiteId,
    keys: Box<dyn EpochKeys>,
}

/// The epochs that stored records may be sealed in, at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Live {
    active: Epoch,
    older: Arc<[Epoch]>,
}

impl Live {
    /// The epoch that seals.
    pub fn active(&self) -> Epoch {
        self.active
    }

    /// Those that are left to be rotated out, oldest first.
    pub fn older(&self) -> &[Epoch] {
        &self.older
    }

    /// All of them, in the order in which a reader looks: the one that seals first.
    pub fn newest_first(&self) -> impl Iterator<Item = Epoch> + '_ {
        std::iter::once(self.active).chain(self.older.iter().rev().copied())
    }

    /// All of them, in the order in which a lister looks. Records move to the epoch that seals only, so who looks there
    /// last misses none.
    pub fn oldest_first(&self) -> impl Iterator<Item = Epoch> + '_ {
        self.older.iter().copied().chain(std::iter::once(self.active))
    }
}

/// The right to write: while it is held, the epoch that seals stays the same.
pub struct Writing<'a> {
    live: Live,
    _held: RwLockReadGuard<'a, ()>,
}

impl Writing<'_> {
    /// The epochs that stored records are sealed in.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// The epoch that seals.
    pub fn epoch(&self) -> Epoch {
        self.live.active
    }
}

impl Keyring {
    /// Gets at the keys of every epoch of `tenant` whose records may be opened.
    pub fn open(keys: &dyn DataKeys, provider: &'static dyn Provider, tenant: &TenantId) -> Result<Self> {
        let record = keys.tenant(tenant)?;
        let epochs = opened(keys, tenant, &record, &HashMap::new())?;
        let state = State::new(&record, epochs, BTreeSet::new())?;
        Ok(Self {
            tenant: tenant.clone(),
            provider,
            ledger: None,
            state: RwLock::new(state),
            writing: RwLock::new(()),
            refreshing: Mutex::new(()),
            sealing: RwLock::default(),
            blinding: RwLock::default(),
            veils: RwLock::default(),
        })
    }

    /// The same keyring with the seals of AES-GCM keys counted in `ledger`: beyond the life of this process.
    #[must_use]
    pub fn counted(mut self, ledger: Arc<dyn SealLedger>) -> Self {
        self.ledger = Some(ledger);
        self
    }

    /// Takes over which epochs there are by now: writes that have begun end in the epoch that they began in, those that
    /// begin later seal in the new one, and the keys of destroyed epochs are erased. Returns whether anything changed.
    pub fn refresh(&self, keys: &dyn DataKeys) -> Result<bool> {
        let _refreshing = self.refreshing.lock();
        let record = keys.tenant(&self.tenant)?;
        let (known, drained) = {
            let state = self.state.read();
            (state.epochs.clone(), state.drained.clone())
        };
        let epochs = opened(keys, &self.tenant, &record, &known)?;
        let fresh = State::new(&record, epochs, drained)?;
        {
            let _quiet = self.writing.write();
            let mut state = self.state.write();
            if fresh.live == state.live && fresh.destroyed == state.destroyed {
                return Ok(false);
            }
            *state = fresh;
        }
        self.forget_closed();
        Ok(true)
    }

    /// Notes that nothing stored is sealed in `epoch` any more: readers need not look for records there. Its keys stay
    /// for what was handed out.
    pub fn drained(&self, epoch: Epoch) {
        let mut state = self.state.write();
        if state.epochs.contains_key(&epoch) && epoch != state.live.active {
            state.drained.insert(epoch);
            state.live.older = state.live.older.iter().copied().filter(|older| *older != epoch).collect();
        }
    }

    /// The tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The implementation of the algorithms.
    pub fn provider(&self) -> &'static dyn Provider {
        self.provider
    }

    /// The epoch that seals. It may be another one at the next call; a write asks for [`writing`](Self::writing).
    pub fn active(&self) -> Epoch {
        self.state.read().live.active
    }

    /// The epochs that stored records may be sealed in.
    pub fn live(&self) -> Live {
        self.state.read().live.clone()
    }

    /// Whether `live` is what it was: who found nothing in those epochs, and they are still the same, missed nothing.
    pub fn is_current(&self, live: &Live) -> bool {
        self.state.read().live == *live
    }

    /// What `look` finds in the live epochs. When these change meanwhile it looks again: records may have moved past it.
    pub fn looking<T>(&self, look: impl Fn(&Live) -> Result<T>) -> Result<T> {
        loop {
            let live = self.live();
            let found = look(&live);
            if self.is_current(&live) {
                return found;
            }
        }
    }

    /// Waits while the epoch that seals is changed, and keeps it from changing.
    pub fn writing(&self) -> Writing<'_> {
        let held = self.writing.read();
        Writing { live: self.live(), _held: held }
    }

    /// Whether the epoch was there when the keyring was opened or refreshed, even if only as destroyed.
    pub fn knows(&self, epoch: Epoch) -> bool {
        let state = self.state.read();
        state.epochs.contains_key(&epoch) || state.destroyed.contains(&epoch)
    }

    /// The key that seals and opens records of `label` and `scope` in `epoch`.
    pub fn sealing(&self, label: Label, epoch: Epoch, scope: &[u8]) -> Result<Arc<SealingKey>> {
        if let Some(found) = self.sealing.read().get(&(label, epoch)).and_then(|scopes| scopes.get(scope)) {
            return Ok(found.clone());
        }
        let (suite, dek) = self.derive(label, epoch, scope)?;
        let mut made = SealingKey::new(self.provider, suite, epoch, &dek)?;
        if let Some(ledger) = &self.ledger {
            let name = self.provider.sha256(&[&label.info(suite, epoch, scope)]);
            made = made.counted(crypto::first_16(name), ledger.clone());
        }
        let made = Arc::new(made);
        Ok(self.keep(&self.sealing, (label, epoch), epoch, scope, made))
    }

    /// The key that blinds names and ids of `scope` in `epoch`.
    pub fn blinding(&self, epoch: Epoch, scope: &[u8]) -> Result<Arc<dyn MacKey>> {
        if let Some(found) = self.blinding.read().get(&epoch).and_then(|scopes| scopes.get(scope)) {
            return Ok(found.clone());
        }
        let (_, secret) = self.derive(Label::BlindIndex, epoch, scope)?;
        let made: Arc<dyn MacKey> = self.provider.mac(&secret).into();
        Ok(self.keep(&self.blinding, epoch, epoch, scope, made))
    }

    /// The rotation that veils vectors of `dimensions` of `scope` in `epoch`; the scope tells sizes apart.
    pub(crate) fn veil(&self, epoch: Epoch, scope: &[u8], dimensions: usize) -> Result<Arc<Veil>> {
        if let Some(found) = self.veils.read().get(&epoch).and_then(|scopes| scopes.get(scope)) {
            return Ok(found.clone());
        }
        let (_, secret) = self.derive(Label::VectorVeil, epoch, scope)?;
        Ok(self.keep(&self.veils, epoch, epoch, scope, Arc::new(Veil::new(&secret, dimensions))))
    }

    /// Keeps a key that was derived, unless its epoch was destroyed meanwhile.
    fn keep<K: Eq + std::hash::Hash, V: ?Sized>(
        &self,
        derived: &Derived<K, V>,
        key: K,
        epoch: Epoch,
        scope: &[u8],
        made: Arc<V>,
    ) -> Arc<V> {
        let mut derived = derived.write();
        // Looked up while the map is locked: who erases the keys of a destroyed epoch comes after that.
        if !self.state.read().epochs.contains_key(&epoch) {
            return made;
        }
        derived.entry(key).or_default().entry(scope.into()).or_insert(made).clone()
    }

    /// Erases the keys of epochs that open no more.
    fn forget_closed(&self) {
        let opens = |epoch: &Epoch| self.state.read().epochs.contains_key(epoch);
        self.sealing.write().retain(|(_, epoch), _| opens(epoch));
        self.blinding.write().retain(|epoch, _| opens(epoch));
        self.veils.write().retain(|epoch, _| opens(epoch));
    }

    fn derive(&self, label: Label, epoch: Epoch, scope: &[u8]) -> Result<(SuiteId, Secret<32>)> {
        let open = {
            let state = self.state.read();
            state.epochs.get(&epoch).cloned().ok_or_else(|| {
                if state.destroyed.contains(&epoch) {
                    return Error::new(ErrorKind::NotFound, format!("epoch {epoch} is destroyed"))
                        .with_remedy("its records can never be opened again");
                }
                // The number came from stored bytes, and nobody ever made such an epoch.
                crypto::open_failed()
            })?
        };
        Ok((open.suite, open.keys.dek(label, scope)?))
    }
}

impl State {
    fn new(record: &TenantRecord, epochs: HashMap<Epoch, Arc<OpenEpoch>>, drained: BTreeSet<Epoch>) -> Result<Self> {
        let active = record.active().ok_or_else(|| Error::integrity("the epoch list of a tenant"))?.epoch;
        let drained: BTreeSet<Epoch> = drained.into_iter().filter(|epoch| epochs.contains_key(epoch)).collect();
        let mut older: Vec<Epoch> =
            epochs.keys().copied().filter(|epoch| *epoch != active && !drained.contains(epoch)).collect();
        older.sort_unstable();
        let destroyed = record.epochs.iter().filter(|e| e.state == EpochState::Destroyed).map(|e| e.epoch).collect();
        Ok(Self { live: Live { active, older: older.into() }, epochs, destroyed, drained })
    }
}

/// The keys of every epoch of `record` that opens; those that are `known` already are not asked for again.
fn opened(
    keys: &dyn DataKeys,
    tenant: &TenantId,
    record: &TenantRecord,
    known: &HashMap<Epoch, Arc<OpenEpoch>>,
) -> Result<HashMap<Epoch, Arc<OpenEpoch>>> {
    let openable = record.epochs.iter().filter(|epoch| epoch.state.can_open());
    openable
        .map(|epoch| {
            let open = match known.get(&epoch.epoch) {
                Some(open) => open.clone(),
                None => Arc::new(OpenEpoch { suite: epoch.suite()?, keys: keys.epoch_keys(tenant, epoch.epoch)? }),
            };
            Ok((epoch.epoch, open))
        })
        .collect()
}
