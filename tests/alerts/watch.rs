//! Rules at work over a log in memory, with a clock that a test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use strongroom::audit::alert::{Alert, AlertOptions, Alerts, Breaker, Rule, WatchParts, Watched};
use strongroom::audit::{Access, AuditSink, Event, InMemory, Outcome, What};
use strongroom::clock::ManualClock;
use strongroom::crypto::default_provider;
use strongroom::{Error, ErrorKind, Result};

pub const NOW_MS: u64 = 1_800_000_000_000;
pub const HOUR_MS: u64 = 3_600_000;

#[derive(Default)]
pub struct Log {
    pub kept: InMemory,
    pub full: AtomicBool,
    pub stuck: AtomicBool,
}

impl AuditSink for Log {
    fn record(&self, event: &Event) -> Result<()> {
        while self.stuck.load(Ordering::SeqCst) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if self.full.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the log is full"));
        }
        self.kept.record(event)
    }
}

pub struct Watch {
    pub sink: Watched<Arc<Log>>,
    pub alerts: Arc<Alerts>,
    pub log: Arc<Log>,
    pub clock: ManualClock,
    pub dir: tempfile::TempDir,
}

impl Watch {
    pub fn new(options: AlertOptions) -> Self {
        Self::over(tempfile::tempdir().unwrap(), ManualClock::at(NOW_MS), options)
    }

    fn over(dir: tempfile::TempDir, clock: ManualClock, options: AlertOptions) -> Self {
        let log = Arc::<Log>::default();
        let parts = WatchParts {
            options,
            dir: dir.path().to_owned(),
            audit: log.clone(),
            breaker: Breaker::open(dir.path(), Arc::new(clock.clone()), log.clone()).unwrap(),
            provider: default_provider(),
            clock: Arc::new(clock.clone()),
        };
        let alerts = Alerts::start(parts).unwrap();
        let sink = Watched::new(log.clone(), alerts.clone());
        // What the start itself looks at comes before whatever a test does.
        alerts.settle();
        Self { sink, alerts, log, clock, dir }
    }

    /// The same after a restart.
    pub fn restart(self, options: AlertOptions) -> Self {
        let Self { sink, alerts, log, clock, dir } = self;
        drop((sink, log));
        drop(Arc::into_inner(alerts).expect("the only one"));
        Self::over(dir, clock, options)
    }

    pub fn event(&self, tenant: &str, what: What) {
        let outcome = if what.is_read() { Outcome::Done } else { Outcome::Refused };
        let event = Event::new(strongroom::clock::Clock::now_ms(&self.clock), "service", what, outcome).tenant(tenant);
        drop(self.sink.record(&event));
    }

    pub fn read(&self, tenant: &str, records: u64) {
        let digest = "0".repeat(64);
        self.event(tenant, What::Read { access: Access::Search, place: None, records, bytes: records * 100, digest });
    }

    /// Lets an hour pass for each of these volumes.
    pub fn hours(&self, tenant: &str, volumes: impl IntoIterator<Item = u64>) {
        for volume in volumes {
            self.clock.set(strongroom::clock::Clock::now_ms(&self.clock) + HOUR_MS);
            if volume > 0 {
                self.read(tenant, volume);
            }
        }
    }

    /// What there was to alert about so far.
    pub fn found(&self) -> Vec<Alert> {
        self.alerts.settle();
        self.alerts.recent()
    }

    pub fn rules(&self) -> Vec<Rule> {
        self.found().iter().map(|alert| alert.rule).collect()
    }
}
