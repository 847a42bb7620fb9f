//! What `serve` does about epochs by itself: it rotates tenants that are due, goes on with what was interrupted, and
//! destroys epochs whose retention is over.

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::error::{ErrorKind, Result};
use crate::id::TenantId;
use crate::keys::policy::{Due, Policy};
use crate::keys::{EpochState, TenantRecord};
use crate::rotation::RotateOptions;

use super::metrics::Epochs;
use super::service::is_due;
use super::{Store, blocking};

/// The longest that a tenant is not looked at: somebody else may have changed its epochs.
const LOOK_AGAIN: Duration = Duration::from_mins(10);
/// How long a tenant is left alone whose rotation failed once, and at most.
const FAILED: [Duration; 2] = [Duration::from_mins(1), Duration::from_hours(1)];

/// What is to be done for a tenant, as far as its epochs tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Its epoch is due.
    Rotate,
    /// An epoch seals no more: a rotation was interrupted, or what was handed out still opens.
    Settle,
    /// Nothing, for so long.
    None(Duration),
}

/// What is known of a tenant, and when it is looked at next.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    failures: u32,
    epochs: Epochs,
}

impl Store {
    /// Rotates what is due and destroys what was kept long enough, several tenants at a time, until `stop` ends. Then it
    /// waits for what is under way to stop. What fails is tried again.
    pub async fn keep_rotating(&self, stop: impl Future<Output = ()> + Send) -> Result<()> {
        let config = self.inner.options.settings();
        let (interval_s, at_once) = (config.rotation_interval_s, config.rotation_tenants_at_once.max(1) as usize);
        tokio::pin!(stop);
        if interval_s == 0 {
            stop.await;
            return Ok(());
        }
        let mut ticks = tokio::time::interval(Duration::from_secs(interval_s.into()));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut looks, mut waiting, mut running) = (HashMap::<_, Look>::new(), Vec::new(), JoinSet::new());
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(done) = running.join_next(), if !running.is_empty() => {
                    if let Ok((tenant, done)) = done
                        && let Some(look) = looks.get_mut(&tenant)
                    {
                        note(look, &done);
                    }
                }
                // Nothing is looked for while there is enough to do.
                _ = ticks.tick(), if waiting.is_empty() && running.len() < at_once => match self.look(&mut looks).await {
                    Ok(due) => waiting = due,
                    Err(e) => tracing::warn!(error = %e, "tenants could not be listed and will be tried again"),
                },
            }
            while running.len() < at_once
                && let Some(tenant) = waiting.pop()
            {
                let store = self.clone();
                running.spawn(async move {
                    let done = store.settle(&tenant).await;
                    (tenant, done)
                });
            }
        }
        self.stop_rotations();
        while running.join_next().await.is_some() {}
        Ok(())
    }

    /// The tenants for which there is something to do, in no order.
    async fn look(&self, looks: &mut HashMap<TenantId, Look>) -> Result<Vec<TenantId>> {
        let tenants = self.tenants().await?;
        looks.retain(|tenant, _| tenants.contains(tenant));
        let now = Instant::now();
        let is_due = |tenant: &TenantId| looks.get(tenant).is_none_or(|look| look.at <= now);
        let tenants: Vec<_> = tenants.iter().filter(|tenant| is_due(tenant)).cloned().collect();
        let inner = self.inner.clone();
        let records =
            blocking(move || Ok(tenants.into_iter().map(|t| (inner.keys.data.tenant(&t), t)).collect::<Vec<_>>()));
        let (policy, now_ms) = (self.inner.options.policy(), self.inner.options.clock.now_ms());
        let open = self.inner.rotations.windows.is_open(now_ms);
        let mut due = Vec::new();
        for (record, tenant) in records.await? {
            let mut look =
                looks.get(&tenant).copied().unwrap_or(Look { at: now, failures: 0, epochs: Epochs::default() });
            let work = match &record {
                Ok(record) => {
                    look.epochs = Epochs::of(record, &policy, now_ms);
                    decide(record, &policy, now_ms)
                }
                Err(e) => {
                    tracing::warn!(error = %e, "a tenant could not be looked at and will be tried again");
                    Work::None(FAILED[0])
                }
            };
            match work {
                Work::Rotate if !open => {}
                Work::Rotate | Work::Settle => {
                    // Until that is done.
                    look.at = now + FAILED[1];
                    due.push(tenant.clone());
                }
                Work::None(wait) => look.at = now + spread(wait),
            }
            looks.insert(tenant, look);
        }
        self.inner.metrics.epochs(looks.values().map(|look| look.epochs), now_ms);
        Ok(due)
    }

    /// Does what there is to do for one tenant. Returns when to look again.
    async fn settle(&self, tenant: &TenantId) -> Result<Duration> {
        let was_open = self.inner.tenants.lock().contains_key(tenant);
        let done = self.settle_open(tenant).await;
        if !was_open && let Err(e) = self.close_tenant(tenant).await {
            tracing::debug!(error = %e, "a tenant is used by others and stays open");
        }
        done
    }

    async fn settle_open(&self, tenant: &TenantId) -> Result<Duration> {
        self.destroy_retained(tenant).await?;
        let status = self.rotation(tenant).await?;
        let due = is_due(self, tenant, &status).await?;
        let status = if due && self.inner.rotations.windows.is_open(self.inner.options.clock.now_ms()) {
            let options = RotateOptions { in_windows: true, ..RotateOptions::default() };
            self.rotate(tenant, options, |_| ()).await?
        } else {
            status
        };
        let next_ms = status.retained.iter().map(|retained| retained.left_ms).min();
        Ok(next_ms.map_or(Duration::ZERO, Duration::from_millis).min(LOOK_AGAIN))
    }
}

/// What the epochs of a tenant tell.
fn decide(record: &TenantRecord, policy: &Policy, now_ms: u64) -> Work {
    if policy.due(record, now_ms).iter().any(|due| matches!(due, Due::Rotate { .. })) {
        return Work::Rotate;
    }
    if record.epochs.iter().any(|e| matches!(e.state, EpochState::Deactivated | EpochState::Compromised)) {
        return Work::Settle;
    }
    let since_ms = record.active().map_or(now_ms, |active| active.since_ms);
    let left_ms = since_ms.saturating_add(policy.epoch_ms).saturating_sub(now_ms);
    Work::None(Duration::from_millis(left_ms).min(LOOK_AGAIN))
}

impl Epochs {
    fn of(record: &TenantRecord, policy: &Policy, now_ms: u64) -> Self {
        let is_retained = |state| matches!(state, EpochState::Deactivated | EpochState::Compromised);
        Self {
            overdue: policy.due(record, now_ms).iter().any(|due| matches!(due, Due::Rotate { .. })),
            retained: record.epochs.iter().filter(|epoch| is_retained(epoch.state)).count(),
            active_since_ms: record.active().map(|active| active.since_ms),
        }
    }
}

/// Notes when to look at a tenant again for which something was done.
fn note(look: &mut Look, done: &Result<Duration>) {
    let wait = match done {
        Ok(wait) => {
            look.failures = 0;
            *wait
        }
        // Somebody else rotates it, or it was told to stop.
        Err(e) if matches!(e.kind(), ErrorKind::Busy | ErrorKind::Partial) => FAILED[0],
        Err(e) => {
            tracing::warn!(error = %e, "a tenant was not rotated and will be tried again");
            let wait = FAILED[0].saturating_mul(1 << look.failures.min(16)).min(FAILED[1]);
            look.failures = look.failures.saturating_add(1);
            wait
        }
    };
    look.at = Instant::now() + spread(wait);
}

/// A little less or more, so that many tenants do not come at once again.
fn spread(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(0.9..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards against a tenant whose rotation fails again and again and takes the turn of the others.
    #[test]
    fn who_fails_is_tried_again_ever_later() {
        let mut look = Look { at: Instant::now(), failures: 0, epochs: Epochs::default() };
        let mut wait = |done: Result<Duration>| {
            note(&mut look, &done);
            look.at.saturating_duration_since(Instant::now())
        };
        let failed = || Err(crate::error::Error::internal("x"));
        let busy = || Err(crate::error::Error::new(ErrorKind::Busy, "x"));
        let waits: Vec<_> = (0..40).map(|_| wait(failed())).collect();
        assert!(waits[0] <= FAILED[0] && waits[1] > FAILED[0] && waits[2] > waits[1], "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= FAILED[1]) && waits[39] > FAILED[1] / 2);
        assert!(wait(busy()) <= FAILED[0]);
        assert!(wait(Ok(Duration::ZERO)) <= Duration::from_secs(1) && wait(failed()) <= FAILED[0]);
    }
}
