//! Telling an operator over HTTP: signed, as Standard Webhooks has it, and tried again for minutes.
//!
//! `webhook-signature` is `v1,` and the base64 of HMAC-SHA-256 over `<webhook-id>.<webhook-timestamp>.<body>`. The
//! timestamp is that of the attempt, so that a receiver can refuse what is old.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tracing::subscriber::{NoSubscriber, with_default};

use super::metrics::Metrics;
use super::{Alert, WebhookTarget};
use crate::clock::Clock;
use crate::crypto::{MacKey, Provider};
use crate::error::{Error, Result};
use crate::limits;

/// Posts alerts on a thread of its own.
pub(super) struct Webhook {
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<()>>,
    metrics: Metrics,
}

/// An alert as it is sent.
struct Message {
    id: String,
    body: Vec<u8>,
}

impl Webhook {
    pub(super) fn start(
        target: WebhookTarget,
        provider: &dyn Provider,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Result<Self> {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("strongroom/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(Duration::from_millis(limits::WEBHOOK_TIMEOUT_MS)));
        if target.is_loopback() {
            // What is meant for this machine does not take the way over a proxy.
            config = config.proxy(None);
        }
        let (sender, receiver) = sync_channel(limits::WEBHOOK_QUEUE);
        let post = Post {
            agent: config.build().new_agent(),
            mac: target.mac(provider),
            target,
            clock,
            metrics: metrics.clone(),
        };
        let thread =
            std::thread::Builder::new().name("strongroom-webhook".into()).spawn(move || post.run(&receiver))?;
        Ok(Self { sender: Some(sender), thread: Some(thread), metrics })
    }

    /// Has `alert` posted. When too many wait, it is not.
    pub(super) fn tell(&self, alert: &Alert) -> Result<()> {
        let body = serde_json::to_vec(alert).map_err(|e| Error::internal("encoding").with_source(e))?;
        let message = Message { id: alert.id.clone(), body };
        match self.sender.as_ref().map(|sender| sender.try_send(message)) {
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => {
                self.metrics.undelivered.inc();
                tracing::warn!(alert = alert.id, "too many alerts wait for the webhook: one is not posted");
            }
            Some(Ok(())) => {}
        }
        Ok(())
    }
}

impl Drop for Webhook {
    /// What waits is tried once more, for a few seconds.
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Post {
    agent: ureq::Agent,
    target: WebhookTarget,
    mac: Box<dyn MacKey>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Post {
    fn run(&self, receiver: &Receiver<Message>) {
        let mut ending: Option<Instant> = None;
        // Those that arrived while an earlier one was tried again.
        let mut waiting = std::collections::VecDeque::new();
        loop {
            let message = match waiting.pop_front() {
                Some(message) => message,
                None => match receiver.recv() {
                    Ok(message) => message,
                    Err(_) => return,
                },
            };
            let mut waits = self.waits();
            loop {
                if self.attempt(&message) {
                    self.metrics.delivered.inc();
                    break;
                }
                let over = ending.is_some_and(|end| Instant::now() >= end);
                let Some(wait) = waits.next().filter(|_| !over) else {
                    self.metrics.undelivered.inc();
                    tracing::warn!(alert = message.id, "the webhook did not take an alert");
                    break;
                };
                let end = Instant::now() + wait;
                // Told to end, nobody waits for a server that is away.
                while Instant::now() < end {
                    match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
                        Ok(next) if waiting.len() < limits::WEBHOOK_QUEUE => waiting.push_back(next),
                        Ok(_) => _ = self.metrics.undelivered.inc(),
                        Err(RecvTimeoutError::Timeout) => break,
                        Err(RecvTimeoutError::Disconnected) => {
                            let until = Instant::now() + Duration::from_millis(limits::WEBHOOK_LINGER_MS);
                            ending.get_or_insert(until);
                            break;
                        }
                    }
                }
                if ending.is_some() {
                    std::thread::sleep(wait.min(Duration::from_millis(limits::WEBHOOK_LINGER_MS / 20)));
                }
            }
        }
    }

    fn waits(&self) -> impl Iterator<Item = Duration> {
        ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(self.target.first_wait_ms.max(1)))
            .with_max_delay(Duration::from_millis(limits::WEBHOOK_WAIT_MS))
            .with_max_times(limits::WEBHOOK_ATTEMPTS - 1)
            .with_factor(2.0)
            .with_jitter()
            .build()
    }

    fn attempt(&self, message: &Message) -> bool {
        let timestamp = (self.clock.now_ms() / 1000).to_string();
        let tag = self.mac.tag(&[message.id.as_bytes(), b".", timestamp.as_bytes(), b".", &message.body]);
        let request = self
            .agent
            .post(self.target.url())
            .content_type("application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", &timestamp)
            .header("webhook-signature", format!("v1,{}", STANDARD.encode(tag)));
        // The HTTP client traces headers: nothing may listen. The address may hold a secret, so no error of it is shown.
        let sent = with_default(NoSubscriber::default(), || request.send(&message.body[..]));
        sent.is_ok_and(|answer| answer.status().is_success())
    }
}
