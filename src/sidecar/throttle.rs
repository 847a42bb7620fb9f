//! How much one tenant may ask of a sidecar: requests in a second, and at a time.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::SidecarOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;

/// Counts by tenant. Only of tenants of verified tokens: made-up names cannot fill it.
pub(super) struct Throttle {
    rate: DefaultKeyedRateLimiter<TenantId>,
    clock: DefaultClock,
    concurrency: usize,
    running: Mutex<HashMap<TenantId, Arc<Semaphore>>>,
}

impl Throttle {
    pub(super) fn new(options: &SidecarOptions) -> Result<Self> {
        let none = || Error::invalid("a sidecar cannot serve a tenant 0 times").with_remedy("allow at least 1");
        let rate = NonZeroU32::new(options.tenant_rate).ok_or_else(none)?;
        if options.tenant_concurrency == 0 {
            return Err(none());
        }
        Ok(Self {
            rate: RateLimiter::keyed(Quota::per_second(rate)),
            clock: DefaultClock::default(),
            concurrency: options.tenant_concurrency,
            running: Mutex::default(),
        })
    }

    /// A place for one request of `tenant`, until it is dropped.
    pub(super) fn admit(&self, tenant: &TenantId) -> Result<OwnedSemaphorePermit> {
        if let Err(not_until) = self.rate.check_key(tenant) {
            return Err(busy(not_until.wait_time_from(self.clock.now()).as_micros().div_ceil(1000).max(1)));
        }
        let places = {
            let mut running = self.running.lock();
            match running.get(tenant) {
                Some(places) => places.clone(),
                None => running.entry(tenant.clone()).or_insert(Arc::new(Semaphore::new(self.concurrency))).clone(),
            }
        };
        places.try_acquire_owned().map_err(|_| busy(10))
    }

    /// Forgets tenants that ask nothing.
    pub(super) fn shrink(&self) {
        self.rate.retain_recent();
        self.running.lock().retain(|_, places| places.available_permits() < self.concurrency);
    }
}

/// The answer to who asks too much.
pub(super) fn busy(retry_ms: u128) -> Error {
    Error::new(ErrorKind::Busy, "the sidecar is busy").with_remedy(format!("retry after {retry_ms} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tenant_has_its_own_share_and_gets_it_back() {
        let options = SidecarOptions { tenant_rate: 1000, tenant_concurrency: 2, ..SidecarOptions::default() };
        let throttle = Throttle::new(&options).unwrap();
        let (acme, initech) = ("acme".parse().unwrap(), "initech".parse().unwrap());
        let held = [throttle.admit(&acme).unwrap(), throttle.admit(&acme).unwrap()];
        let refused = throttle.admit(&acme).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::Busy);
        assert!(refused.remedy().unwrap().starts_with("retry after "));
        drop(throttle.admit(&initech).unwrap());
        throttle.shrink();
        assert!(throttle.admit(&acme).is_err(), "forgotten while it is at work");
        drop(held);
        drop(throttle.admit(&acme).unwrap());
        throttle.shrink();
        assert!(throttle.running.lock().is_empty());
    }

    #[test]
    fn too_many_in_a_second_are_told_when_to_come_back() {
        let options = SidecarOptions { tenant_rate: 5, ..SidecarOptions::default() };
        let throttle = Throttle::new(&options).unwrap();
        let acme = "acme".parse().unwrap();
        let refused = (0..100).find_map(|_| throttle.admit(&acme).err()).unwrap();
        assert_eq!(refused.kind(), ErrorKind::Busy);
        assert!(Throttle::new(&SidecarOptions { tenant_rate: 0, ..options.clone() }).is_err());
        assert!(Throttle::new(&SidecarOptions { tenant_concurrency: 0, ..options }).is_err());
    }
}
