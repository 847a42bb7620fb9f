//! The thread that looks at events beside their way into the log, tells whom it concerns, and has the log say that it is
//! written.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::registry::Registry;

use super::baseline::{self, BASELINE_FILE};
use super::breaker::{Breaker, Operator};
use super::heart::Heart;
use super::metrics::Metrics;
use super::reads::Reads;
use super::rules::Rules;
use super::signal::{self, Kind, Signal};
use super::webhook::Webhook;
use super::{Alert, AlertOptions, Rule};
use crate::audit::{AuditSink, Event, Outcome, What};
use crate::clock::Clock;
use crate::crypto::Provider;
use crate::entropy;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// How often is looked at the time.
const TICK: Duration = Duration::from_secs(1);
/// How long a heartbeat is waited for where everything is to have settled.
const BEAT: Duration = Duration::from_millis(300);
/// How often what is usual is written down.
const SAVE: Duration = Duration::from_secs(60);
/// What alerts and heartbeats call the process that they are of.
pub(super) const SERVICE: &str = "watch";

/// What alerts work with.
pub struct WatchParts {
    /// When there is one, and where it goes.
    pub options: AlertOptions,
    /// Where what is usual is kept. One process works with it.
    pub dir: PathBuf,
    /// The log, for heartbeats.
    pub audit: Arc<dyn AuditSink>,
    /// Who pauses tenants.
    pub breaker: Arc<Breaker>,
    /// The implementation of the algorithms.
    pub provider: &'static dyn Provider,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The rules at work. Dropping it ends them, and keeps what they have learnt.
pub struct Alerts {
    shared: Arc<Shared>,
    sender: SyncSender<Message>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    breaker: Arc<Breaker>,
}

#[derive(Default)]
pub(super) struct Shared {
    metrics: Metrics,
    pub(super) events: AtomicU64,
    missed: AtomicU64,
    pub(super) unwritten: AtomicU64,
    reads: Mutex<Reads>,
    /// Whether a heartbeat is on its way into the log.
    pub(super) beating: AtomicBool,
    recent: Mutex<Vec<Alert>>,
}

enum Message {
    Signal(Signal),
    /// Look at the time now, and say when everything before was looked at.
    Settle(SyncSender<()>),
    Stop,
}

impl Alerts {
    /// Starts the rules.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for options that cannot be kept.
    pub fn start(parts: WatchParts) -> Result<Arc<Self>> {
        let WatchParts { mut options, dir, audit, breaker, provider, clock } = parts;
        options.check()?;
        let shared = Arc::<Shared>::default();
        let webhook = options.webhook.take();
        let webhook = webhook.map(|target| Webhook::start(target, provider, clock.clone(), shared.metrics.clone()));
        let path = dir.join(BASELINE_FILE);
        let rules = Rules::new(options, baseline::read(&path));
        let (sender, receiver) = sync_channel(limits::ALERT_QUEUE);
        let (beat, beats) = sync_channel(1);
        let failures = entropy::health().failures;
        let watch = Watch {
            rules,
            path,
            webhook: webhook.transpose()?,
            breaker: breaker.clone(),
            clock: clock.clone(),
            shared: shared.clone(),
            beat,
            beaten_ms: clock.now_ms(),
            saved: Instant::now(),
            failures,
            audit: audit.clone(),
        };
        let start = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(format!("strongroom-{name}")).spawn(work);
            thread.map_err(|e| Error::new(ErrorKind::Unavailable, "a thread could not be started").with_source(e))
        };
        let heart = Heart { audit, clock, shared: shared.clone() };
        let threads = vec![
            start("watch", Box::new(move || watch.run(&receiver)))?,
            start("heartbeat", Box::new(move || heart.run(&beats)))?,
        ];
        Ok(Arc::new(Self { shared, sender, threads: Mutex::new(threads), breaker }))
    }

    /// Who pauses tenants.
    pub fn breaker(&self) -> &Arc<Breaker> {
        &self.breaker
    }

    /// The latest alerts, oldest first: at most [`limits::ALERTS_KEPT`].
    pub fn recent(&self) -> Vec<Alert> {
        self.shared.recent.lock().clone()
    }

    /// Waits until the rules have seen every event recorded so far, and looked at the time; and a moment for a heartbeat
    /// that is due, which would be missed by who lets hours pass at once.
    pub fn settle(&self) {
        let (done, settled) = sync_channel(1);
        if self.sender.send(Message::Settle(done)).is_ok() {
            // A thread that ended has nothing more to say.
            let _ = settled.recv();
        }
        let until = Instant::now() + BEAT;
        while self.shared.beating.load(Ordering::Acquire) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Adds what is counted to a registry of metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
    }

    /// Events have been recorded, or could not be. Waits for nothing.
    pub(super) fn saw(&self, events: &[Event], recorded: bool) {
        let shared = &self.shared;
        shared.events.fetch_add(events.len() as u64, Ordering::Relaxed);
        if !recorded {
            shared.unwritten.fetch_add(events.len() as u64, Ordering::Relaxed);
            shared.metrics.unwritten.inc_by(events.len() as u64);
        }
        // Also what could not be recorded: an attack on a full disk is an attack.
        for event in events {
            let seen = match (signal::kind(event), &event.tenant) {
                (Some(Kind::Read(amount)), Some(tenant)) => {
                    shared.reads.lock().add(tenant, &event.service, event.at_ms, amount)
                }
                (None | Some(Kind::Read(_)), _) => true,
                (Some(kind), _) => self.sender.try_send(Message::Signal(Signal::new(event, kind))).is_ok(),
            };
            if !seen {
                shared.missed.fetch_add(1, Ordering::Relaxed);
                shared.metrics.missed.inc();
            }
        }
    }
}

impl Drop for Alerts {
    fn drop(&mut self) {
        // It waits while the queue is full, and that is being emptied.
        drop(self.sender.send(Message::Stop));
        for thread in self.threads.lock().drain(..) {
            if thread.thread().id() != std::thread::current().id() {
                // One that panicked has nothing more to say.
                drop(thread.join());
            }
        }
    }
}

/// The thread's part.
struct Watch {
    rules: Rules,
    path: PathBuf,
    webhook: Option<Webhook>,
    breaker: Arc<Breaker>,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
    beat: SyncSender<()>,
    beaten_ms: u64,
    saved: Instant,
    failures: u64,
    audit: Arc<dyn AuditSink>,
}

impl Watch {
    fn run(mut self, receiver: &Receiver<Message>) {
        let mut looked = Instant::now();
        // At once: the clock may have been set while nobody looked.
        self.look();
        loop {
            match receiver.recv_timeout(TICK.saturating_sub(looked.elapsed())) {
                Ok(Message::Signal(signal)) => {
                    let found = self.rules.take(signal);
                    self.tell(found);
                }
                Ok(Message::Settle(done)) => {
                    self.look();
                    // Nobody waits only when the caller is gone.
                    let _ = done.send(());
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if looked.elapsed() >= TICK {
                self.look();
                looked = Instant::now();
            }
        }
        self.take_reads();
        self.save();
    }

    /// What was read since the last look.
    fn take_reads(&mut self) {
        let reads = self.shared.reads.lock().take();
        for signal in reads {
            let found = self.rules.take(signal);
            self.tell(found);
        }
    }

    /// What the time says, and what could not be said otherwise.
    fn look(&mut self) {
        let now_ms = self.clock.now_ms();
        match self.clock.uptime() {
            Ok(uptime) => {
                let found = self.rules.look(now_ms, &uptime);
                self.tell(found);
            }
            Err(e) => tracing::debug!(error = %e, "the time since the machine was started is not known"),
        }
        self.take_reads();
        self.look_at_log(now_ms);
        let missed = self.shared.missed.swap(0, Ordering::Relaxed);
        if missed > 0 {
            let found = self.rules.trouble(Rule::EventsMissed, missed, now_ms);
            self.tell(found);
        }
        self.look_at_random_source(now_ms);
        let metrics = &self.shared.metrics;
        metrics.tripped.set(i64::try_from(self.breaker.count()).unwrap_or(i64::MAX));
        metrics.held_back.inc_by(std::mem::take(&mut self.rules.held_back));
        if self.saved.elapsed() >= SAVE {
            self.save();
        }
    }

    fn look_at_log(&mut self, now_ms: u64) {
        let heartbeat_ms = self.rules.options().heartbeat_ms;
        let unwritten = self.shared.unwritten.swap(0, Ordering::Relaxed);
        let due = heartbeat_ms > 0 && now_ms.abs_diff(self.beaten_ms) >= heartbeat_ms;
        let mut silent = false;
        if due {
            self.beaten_ms = now_ms;
            // One that is still on its way is not followed by another: the log hangs.
            silent = self.shared.beating.swap(true, Ordering::AcqRel);
            if !silent && self.beat.try_send(()).is_err() {
                self.shared.beating.store(false, Ordering::Release);
            }
        }
        if unwritten > 0 || silent {
            let found = self.rules.trouble(Rule::LogStalled, unwritten, now_ms);
            self.tell(found);
        }
    }

    /// Nothing that is random can be had after that, but the log needs nothing random.
    fn look_at_random_source(&mut self, now_ms: u64) {
        let failures = entropy::health().failures;
        if failures > self.failures {
            self.failures = failures;
            let event = Event::new(now_ms, SERVICE, What::HealthTestFailed { failures }, Outcome::Failed);
            if self.audit.record(&event).is_err() {
                tracing::error!("a failed health test of the random source could not be recorded");
            }
            if let Some(signal) = Signal::of(&event) {
                let found = self.rules.take(signal);
                self.tell(found);
            }
        }
    }

    fn tell(&mut self, found: Result<Option<Alert>>) {
        let mut alert = match found {
            Ok(Some(alert)) => alert,
            Ok(None) => return,
            Err(e) => {
                tracing::error!(error = %e, "an alert could not be made");
                return;
            }
        };
        if let Some(tenant) = alert.tenant.as_ref().filter(|_| self.rules.options().trips.contains(&alert.rule)) {
            let who = Operator { service: SERVICE.to_owned(), role: None };
            if let Err(e) = self.breaker.trip(&who, tenant, alert.rule.as_str()) {
                tracing::error!(error = %e, "a breaker was tripped, but that could not be written down");
            }
            alert.tripped = true;
        }
        tracing::warn!(
            rule = alert.rule.as_str(),
            tenant = alert.tenant.as_deref(),
            service = alert.service.as_deref(),
            count = alert.count,
            threshold = alert.threshold,
            held_back = alert.held_back,
            tripped = alert.tripped,
            alert = alert.id,
            "alert"
        );
        self.shared.metrics.raised(alert.rule);
        if let Some(webhook) = &self.webhook
            && let Err(e) = webhook.tell(&alert)
        {
            tracing::error!(error = %e, "an alert could not be posted");
        }
        let mut recent = self.shared.recent.lock();
        if recent.len() >= limits::ALERTS_KEPT {
            recent.remove(0);
        }
        recent.push(alert);
    }

    fn save(&mut self) {
        self.saved = Instant::now();
        let written = baseline::write(&self.path, self.rules.known());
        if let Err(e) = written {
            tracing::warn!(error = %e, "what is usual could not be written down and will be again");
        }
    }
}
