//! A sink that lets the rules see what goes into the log.

use std::sync::Arc;

use super::watch::Alerts;
use crate::audit::{AuditSink, Event};
use crate::error::Result;

/// A sink with rules that look at what it has recorded.
#[derive(Clone)]
pub struct Watched<S> {
    inner: S,
    alerts: Arc<Alerts>,
}

impl<S: AuditSink> Watched<S> {
    /// `inner`, watched by `alerts`.
    pub fn new(inner: S, alerts: Arc<Alerts>) -> Self {
        Self { inner, alerts }
    }

    /// Who watches.
    pub fn alerts(&self) -> &Arc<Alerts> {
        &self.alerts
    }
}

impl<S: AuditSink> AuditSink for Watched<S> {
    fn record(&self, event: &Event) -> Result<()> {
        let recorded = self.inner.record(event);
        self.alerts.saw(std::slice::from_ref(event), recorded.is_ok());
        recorded
    }

    fn record_all(&self, events: &[Event]) -> Result<()> {
        let recorded = self.inner.record_all(events);
        self.alerts.saw(events, recorded.is_ok());
        recorded
    }
}
