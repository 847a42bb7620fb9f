//! What a listener shows and whom it believes, kept as its files are.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::files::Followed;
use super::services::Services;
use super::tls::{Own, Shown};
use crate::error::Result;
use crate::limits;

/// What holds for whoever connects now.
pub(super) struct Standing {
    pub(super) services: Arc<Services>,
    /// Over TCP only, and where it was read from.
    pub(super) shown: Option<(Shown, [PathBuf; 2])>,
}

impl Standing {
    pub(super) fn new(services: Arc<Services>, own: Option<Own>) -> Result<Self> {
        let shown = match own {
            Some(own) => {
                let files = own.files().clone();
                Some((Shown::new(own, &services)?, files))
            }
            None => None,
        };
        Ok(Self { services, shown })
    }

    fn files(&self) -> Vec<PathBuf> {
        let own = self.shown.iter().flat_map(|(_, files)| files.clone());
        self.services.files().into_iter().chain(own).collect()
    }

    fn reload(&self) -> Result<Self> {
        let services = self.services.reload()?.map_or_else(|| self.services.clone(), Arc::new);
        let own = self.shown.as_ref().map(|(_, [certificate, key])| Own::read(certificate, key)).transpose()?;
        Self::new(services, own)
    }
}

/// Keeps `standing` as its files are, until nobody listens to it any more. Files that are no good change nothing.
pub(super) async fn keep_up(standing: watch::Sender<Arc<Standing>>, mut followed: Followed<Standing>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(limits::RELOAD_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = standing.closed() => return,
        }
        let looked = tokio::task::spawn_blocking(move || {
            let files = followed.made().files();
            let looked = followed.look(&files, Standing::reload);
            (looked, followed)
        });
        // An error means that the runtime ends.
        let Ok((looked, back)) = looked.await else { return };
        followed = back;
        match looked {
            Ok(true) => {
                standing.send_replace(followed.made().clone());
            }
            Ok(false) => {}
            Err(e) => tracing::warn!(error = %e, "files have changed and are no good: what was read before goes on"),
        }
    }
}
