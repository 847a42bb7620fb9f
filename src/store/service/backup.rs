//! Backups that a service is asked for: where they may go, how far they are, and what was made.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use tonic::Request;

use super::convert::{bad, failure, failure_to_wire};
use super::grpc::caller;
use super::runs::Runs;
use super::wire;
use crate::backup::Progress;
use crate::error::{Error, ErrorKind, Result};
use crate::keys::kms::Role;
use crate::server::Known;
use crate::store::{BackupReport, Store};

/// What a service says of a backup.
#[derive(Debug)]
pub struct BackupState {
    /// How far it is.
    pub progress: Progress,
    /// What was made, or why not; `None` while it goes on.
    pub ended: Option<Result<BackupReport>>,
}

/// Who may have the backup go where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The user that the service runs as: what it asks for, it could do itself.
    SameUser,
    /// Somebody else.
    Other,
}

/// The backups that were asked for.
pub(super) struct Backups {
    store: Store,
    runs: Arc<Runs<(), Progress, BackupReport>>,
}

/// By whom a backup is asked for, if that is an admin of all tenants: all of them are in it.
pub(super) fn permitted<Q>(request: &Request<Q>) -> Result<By> {
    let caller = caller(request, Role::Admin)?;
    if !caller.works_for_all() {
        let message = format!("service `{}` does not work for all tenants", caller.service());
        return Err(Error::new(ErrorKind::Denied, message)
            .with_remedy("use a service whose `tenants` are \"*\" in the configuration"));
    }
    let same = request.extensions().get::<Known>().is_some_and(Known::is_same_user);
    Ok(if same { By::SameUser } else { By::Other })
}

impl Backups {
    pub(super) fn new(store: Store) -> Self {
        Self { store, runs: Arc::new(Runs::new()) }
    }

    /// Begins one, which goes on by itself.
    pub(super) fn begin(&self, to: &str, by: By) -> Result<u64> {
        let options = self.store.options();
        let allowed = &options.settings().backup_dir;
        let allowed = (!allowed.as_os_str().is_empty()).then(|| options.dir().join(allowed));
        let to = destination(Path::new(to), by, allowed.as_deref())?;
        // Before anybody waits for it, in words that say why.
        self.store.check_backup_dir(&to)?;
        let busy = || {
            Error::new(ErrorKind::Busy, "another backup is being made")
                .with_remedy("wait until it is done, then ask again")
        };
        let run = self.runs.begin(())?.ok_or_else(busy)?;
        let (store, runs) = (self.store.clone(), self.runs.clone());
        tokio::spawn(async move {
            let watched = runs.clone();
            let made = store.backup(to, move |at| watched.moved(run, at)).await;
            match &made {
                Ok(made) => tracing::info!(number = made.number, bytes = made.bytes, "a backup was made"),
                Err(e) => tracing::warn!(error = %e, "a backup that was asked for failed"),
            }
            runs.ended(run, made);
        });
        Ok(run)
    }

    pub(super) fn state(&self, run: u64) -> Result<wire::BackupState> {
        let standing = self.runs.standing(run)?;
        let (made, failure) = match &standing.ended {
            None => (None, None),
            Some(Ok(made)) => (Some(made_to_wire(made)), None),
            Some(Err(e)) => (None, Some(failure_to_wire(e))),
        };
        let Progress { done, of, bytes } = standing.at;
        Ok(wire::BackupState { running: standing.ended.is_none(), done, of, bytes, made, failure })
    }
}

/// Where the backup goes, if it may.
fn destination(to: &Path, by: By, allowed: Option<&Path>) -> Result<PathBuf> {
    let plain = to.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !to.is_absolute() || !plain {
        return Err(Error::invalid(format!("`{}` is not an absolute path without `..`", to.display()))
            .with_remedy("name the directory as the store's machine knows it, as in `/mnt/backups`"));
    }
    if by == By::SameUser {
        return Ok(to.to_owned());
    }
    let denied = |message: String, remedy: String| Err(Error::new(ErrorKind::Denied, message).with_remedy(remedy));
    let Some(allowed) = allowed else {
        return denied(
            "this store makes backups only for the user that it runs as".to_owned(),
            "have the setting `backup_dir` of the store name the directory below which they may go".to_owned(),
        );
    };
    let Ok(root) = allowed.canonicalize() else {
        let message = format!("the directory of backups, `{}`, is not there", allowed.display());
        return Err(Error::new(ErrorKind::Unavailable, message)
            .with_remedy("make it, or mount it, on the store's machine; the setting `backup_dir` names it"));
    };
    // What is not there yet is made where the first of its ancestors is that is: links lead nowhere else.
    let there = to.ancestors().find_map(|dir| dir.canonicalize().ok());
    if there.is_some_and(|there| there.starts_with(&root)) {
        return Ok(to.to_owned());
    }
    denied(
        format!("`{}` is not below the directory of backups", to.display()),
        format!("name a directory below `{}`", allowed.display()),
    )
}

fn made_to_wire(made: &BackupReport) -> wire::BackupMade {
    let BackupReport { number, at_ms, collections, unchanged, points, bytes, written_bytes, written_parts } = *made;
    wire::BackupMade {
        number,
        at_ms,
        collections: collections as u64,
        unchanged: unchanged as u64,
        points,
        bytes,
        written_bytes,
        written_parts: written_parts as u64,
    }
}

pub(super) fn from_wire(state: wire::BackupState) -> Result<BackupState> {
    let size = |n: u64| usize::try_from(n).map_err(|_| bad());
    let ended = match (state.running, state.made, state.failure) {
        (true, None, None) => None,
        (false, None, Some(e)) => Some(Err(failure(e))),
        (false, Some(made), None) => Some(Ok(BackupReport {
            number: made.number,
            at_ms: made.at_ms,
            collections: size(made.collections)?,
            unchanged: size(made.unchanged)?,
            points: made.points,
            bytes: made.bytes,
            written_bytes: made.written_bytes,
            written_parts: size(made.written_parts)?,
        })),
        _ => return Err(bad()),
    };
    Ok(BackupState { progress: Progress { done: state.done, of: state.of, bytes: state.bytes }, ended })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards against a caller who writes where it may not.
    #[test]
    fn backups_go_below_the_directory_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (allowed, other) = (dir.join("backups"), dir.join("backups-of-others"));
        for dir in [&allowed, &other] {
            std::fs::create_dir(dir).unwrap();
        }
        std::os::unix::fs::symlink(&other, allowed.join("link")).unwrap();
        let of_other = |to: &Path| destination(to, By::Other, Some(&allowed)).map_err(|e| e.kind());
        for to in ["", "new", "new/and/deeper"] {
            assert!(of_other(&allowed.join(to)).is_ok(), "{to}");
        }
        for to in [&other, &dir, Path::new("/"), Path::new("/etc/backups"), &allowed.join("link/new")] {
            assert_eq!(of_other(to), Err(ErrorKind::Denied), "{}", to.display());
        }
        for to in ["backups", "", "./backups"] {
            assert_eq!(of_other(Path::new(to)), Err(ErrorKind::InvalidInput), "{to}");
        }
        for to in ["../other", "new/../../other"] {
            assert_eq!(of_other(&allowed.join(to)), Err(ErrorKind::InvalidInput), "{to}");
        }
        let same = |to: &Path| destination(to, By::SameUser, None).map_err(|e| e.kind());
        assert!(same(&other).is_ok());
        assert_eq!(same(Path::new("backups")), Err(ErrorKind::InvalidInput));
        let unset = destination(&allowed, By::Other, None).err().unwrap();
        assert_eq!(unset.kind(), ErrorKind::Denied);
        assert!(unset.remedy().unwrap().contains("backup_dir"));
        let gone = destination(&allowed, By::Other, Some(&dir.join("gone"))).err().unwrap();
        assert_eq!(gone.kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn a_state_arrives_as_it_was_sent() {
        let made = BackupReport {
            number: 1,
            at_ms: 2,
            collections: 3,
            unchanged: 4,
            points: 5,
            bytes: 6,
            written_bytes: 7,
            written_parts: 8,
        };
        let sent =
            wire::BackupState { done: 9, of: 10, bytes: 11, made: Some(made_to_wire(&made)), ..Default::default() };
        let arrived = from_wire(sent.clone()).unwrap();
        assert_eq!(arrived.progress, Progress { done: 9, of: 10, bytes: 11 });
        assert_eq!(format!("{:?}", arrived.ended.unwrap().unwrap()), format!("{made:?}"));
        assert!(from_wire(wire::BackupState { running: true, ..sent.clone() }).is_err());
        assert!(from_wire(wire::BackupState { made: None, ..sent }).is_err());
    }
}
