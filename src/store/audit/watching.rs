//! A log with rules that watch it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::audit::alert::{AlertOptions, Alerts, Breaker, Rule, WatchParts, Watched, WebhookSecret, WebhookTarget};
use crate::audit::log::KeyKeeper;
use crate::audit::{AuditSink, Event, Log, Outcome, What};
use crate::crypto;
use crate::error::Result;
use crate::store::{LogOf, StoreOptions};

/// A log, and who watches it. Clones share them.
#[derive(Clone)]
pub struct Watching {
    /// Where events go: past the rules, into the log.
    pub sink: Arc<dyn AuditSink>,
    /// The rules and the breaker.
    pub alerts: Arc<Alerts>,
    /// The log, where it was opened for this.
    log: Option<Arc<Log>>,
}

impl Watching {
    /// Writes down that a process has started to work by `options`; `dir` remembers with which configuration.
    pub fn started(&self, options: &StoreOptions, dir: &Path, service: &str) -> Result<()> {
        let what = super::started(dir, options.settings())?;
        self.sink.record(&Event::new(options.clock.now_ms(), service, what, Outcome::Done))
    }

    /// Writes down that it ended in good order, and ends the log: its last entries are signed.
    pub fn stopped(&self, options: &StoreOptions, service: &str) -> Result<()> {
        let stopped = self.sink.record(&Event::new(options.clock.now_ms(), service, What::Stopped, Outcome::Done));
        self.close();
        stopped
    }

    /// Ends the log, whoever still has it.
    pub fn close(&self) {
        if let Some(log) = &self.log {
            log.close();
        }
    }
}

impl StoreOptions {
    /// Has `log` watched by the rules of the settings. What these learn, and whom the breaker pauses, is kept in `dir`,
    /// which one process works with at a time.
    pub fn watch(&self, log: Arc<dyn AuditSink>, dir: PathBuf) -> Result<Watching> {
        let breaker = Breaker::open(&dir, self.clock.clone(), log.clone())?;
        let parts = WatchParts {
            options: self.alerts()?,
            dir,
            audit: log.clone(),
            breaker,
            provider: crypto::default_provider(),
            clock: self.clock.clone(),
        };
        let alerts = Alerts::start(parts)?;
        Ok(Watching { sink: Arc::new(Watched::new(log, alerts.clone())), alerts, log: None })
    }

    /// Opens the log of a process, or begins it, and has it watched.
    pub fn watch_own(&self, of: LogOf, keeper: KeyKeeper, service: Option<&str>) -> Result<Watching> {
        let log = Arc::new(self.open_log(of, keeper, service)?);
        Ok(Watching { log: Some(log.clone()), ..self.watch(log, self.dir_of(of))? })
    }

    /// When there is an alert, and where it goes.
    fn alerts(&self) -> Result<AlertOptions> {
        let config = self.settings();
        let seconds = |seconds: u32| u64::from(seconds) * 1000;
        let trips = config.alert_trips.split(',').map(str::trim).filter(|rule| !rule.is_empty());
        let webhook = if config.alert_webhook.is_empty() {
            None
        } else {
            let file = &config.alert_webhook_secret_file;
            let file = if file.as_os_str().is_empty() { file.clone() } else { self.dir().join(file) };
            Some(WebhookTarget::new(&config.alert_webhook, WebhookSecret::find(&file)?)?)
        };
        Ok(AlertOptions {
            window_ms: seconds(config.alert_window_s),
            open_failures: config.alert_open_failures,
            signature_failures: config.alert_signature_failures,
            cross_tenant: config.alert_cross_tenant,
            token_replays: config.alert_token_replays,
            volume_factor: config.alert_volume_factor,
            volume_floor: config.alert_volume_floor,
            warm_up_ms: seconds(config.alert_warm_up_min) * 60,
            heartbeat_ms: seconds(config.audit_heartbeat_s),
            clock_jump_ms: seconds(config.alert_clock_jump_s),
            repeat_ms: seconds(config.alert_repeat_s),
            trips: trips.map(str::parse::<Rule>).collect::<Result<_>>()?,
            webhook,
        })
    }
}
