//! A keystore with two tenants of each profile, made once and copied for every test, and services over it.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use strongroom::audit::InMemory;
use strongroom::clock::ManualClock;
use strongroom::crypto::default_provider;
use strongroom::keys::keystore::Unlock;
use strongroom::keys::keystore::file::KdfCost;
use strongroom::keys::kms::{Caller, Handle, Kms, KmsOptions, LocalKms, PoolOptions, Role, Scope, Session};
use strongroom::keys::{Keystore, Profile};
use strongroom::{AgentId, ErrorKind, Passphrase, Result, TenantId};

pub const NOW_MS: u64 = 1_800_000_000_000;
pub const HOUR_MS: u64 = 3_600_000;

/// A running service.
pub struct World {
    pub kms: Arc<LocalKms>,
    pub clock: ManualClock,
    pub audit: Arc<InMemory>,
    pub dir: tempfile::TempDir,
}

pub fn id(name: &str) -> TenantId {
    name.parse().unwrap()
}

/// The first tenant of a profile; [`other_of`] is the second.
pub fn tenant_of(profile: Profile) -> TenantId {
    id(&format!("{profile}-1"))
}

pub fn other_of(profile: Profile) -> TenantId {
    id(&format!("{profile}-2"))
}

pub fn agent() -> AgentId {
    "planner".parse().unwrap()
}

pub fn unlock() -> Unlock {
    Unlock::Passphrase(Passphrase::new(b"a passphrase for tests".to_vec()).unwrap(), KdfCost::INSECURE_FAST)
}

/// Few keys, looked after often.
pub fn options() -> KmsOptions {
    KmsOptions {
        sweep_ms: 10,
        pool: PoolOptions { target: 64, low_water: 32, max_age_ms: 10 * HOUR_MS },
        ..KmsOptions::default()
    }
}

fn template() -> &'static Path {
    static TEMPLATE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = TEMPLATE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(NOW_MS);
        let keystore = Keystore::create(dir.path(), default_provider(), unlock(), &clock).unwrap();
        for profile in Profile::ALL {
            for tenant in [tenant_of(profile), other_of(profile)] {
                keystore.onboard(&tenant, profile, NOW_MS).unwrap();
            }
        }
        dir
    });
    made.path()
}

impl World {
    pub fn new() -> Self {
        Self::with(options())
    }

    pub fn with(options: KmsOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(template()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
            }
        }
        Self::over(dir, ManualClock::at(NOW_MS), options)
    }

    fn over(dir: tempfile::TempDir, clock: ManualClock, options: KmsOptions) -> Self {
        let keystore = Arc::new(Keystore::open(dir.path(), default_provider(), unlock()).unwrap());
        let audit = Arc::new(InMemory::default());
        let kms = LocalKms::new(keystore, options, Arc::new(clock.clone()), audit.clone()).unwrap();
        Self { kms, clock, audit, dir }
    }

    /// The same keystore under a new service.
    pub fn restart(self) -> Self {
        let Self { kms, clock, dir, .. } = self;
        assert!(Arc::into_inner(kms).is_some(), "a handle is left");
        Self::over(dir, clock, options())
    }

    /// A service of one tenant.
    pub fn of(&self, role: Role, tenant: &TenantId) -> Handle {
        self.kms.caller(Caller::new(format!("{role}-1"), role, Scope::Tenants([tenant.clone()].into())))
    }

    /// A service that no scope holds back.
    pub fn anywhere(&self, role: Role) -> Handle {
        self.kms.caller(Caller::new(format!("{role}-0"), role, Scope::All))
    }

    /// A session of an hour.
    pub fn session(&self, tenant: &TenantId) -> Session {
        let agents = self.of(Role::Agent, tenant);
        patiently(|| agents.open_session(tenant, &agent(), HOUR_MS)).unwrap()
    }
}

/// Tries again while nothing is ready: as a caller should.
pub fn patiently<T>(mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match ask() {
            Err(e) if e.kind() == ErrorKind::Unavailable && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}

/// Waits until something that another thread does has been done.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < until, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}
