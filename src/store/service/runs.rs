//! What a service was asked to do and goes on with by itself: how far each is, and how it ended, for a while.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::admin::copy;
use crate::entropy;
use crate::error::{Error, Result};
use crate::limits;

/// The latest runs of one kind, oldest first.
pub(super) struct Runs<K, P, R>(Mutex<VecDeque<Run<K, P, R>>>);

struct Run<K, P, R> {
    id: u64,
    /// What it is of.
    key: K,
    at: P,
    ended: Option<Result<R>>,
}

/// Where a run stands.
pub(super) struct Standing<K, P, R> {
    pub(super) key: K,
    pub(super) at: P,
    pub(super) ended: Option<Result<R>>,
}

impl<K: Clone + PartialEq, P: Clone + Default, R: Clone> Runs<K, P, R> {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Notes one that begins. `None` while one of the same `key` is going on, or too many are.
    pub(super) fn begin(&self, key: K) -> Result<Option<u64>> {
        let mut bytes = [0; 8];
        entropy::fill(&mut bytes)?;
        let id = u64::from_be_bytes(bytes);
        let mut runs = self.0.lock();
        if runs.iter().any(|run| run.key == key && run.ended.is_none()) {
            return Ok(None);
        }
        if runs.len() >= limits::ADMIN_RUNS {
            let Some(oldest) = runs.iter().position(|run| run.ended.is_some()) else { return Ok(None) };
            runs.remove(oldest);
        }
        runs.push_back(Run { id, key, at: P::default(), ended: None });
        Ok(Some(id))
    }

    /// Notes how far one is.
    pub(super) fn moved(&self, id: u64, at: P) {
        if let Some(run) = self.0.lock().iter_mut().find(|run| run.id == id) {
            run.at = at;
        }
    }

    /// Notes how one ended.
    pub(super) fn ended(&self, id: u64, how: Result<R>) {
        if let Some(run) = self.0.lock().iter_mut().find(|run| run.id == id) {
            run.ended = Some(how);
        }
    }

    /// Where one stands.
    pub(super) fn standing(&self, id: u64) -> Result<Standing<K, P, R>> {
        let runs = self.0.lock();
        let run = runs.iter().find(|run| run.id == id).ok_or_else(|| {
            Error::not_found("the store does not know of this any more")
                .with_remedy("it was started anew, or much was asked of it since: ask again")
        })?;
        let ended = run.ended.as_ref().map(|ended| match ended {
            Ok(ended) => Ok(ended.clone()),
            Err(e) => Err(copy(e)),
        });
        Ok(Standing { key: run.key.clone(), at: run.at.clone(), ended })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn one_of_a_kind_goes_on_and_the_oldest_that_ended_are_forgotten() {
        let runs = Runs::<u32, u64, u64>::new();
        let first = runs.begin(0).unwrap().unwrap();
        assert!(runs.begin(0).unwrap().is_none(), "it goes on");
        runs.moved(first, 7);
        assert!(matches!(runs.standing(first), Ok(Standing { key: 0, at: 7, ended: None })));
        let others: Vec<_> = (1..u32::try_from(limits::ADMIN_RUNS).unwrap()).map(|n| runs.begin(n).unwrap()).collect();
        assert!(others.iter().all(Option::is_some));
        assert!(runs.begin(9999).unwrap().is_none(), "all of them go on");
        runs.ended(first, Err(Error::new(ErrorKind::StorageFull, "x").with_remedy("y")));
        let ended = runs.standing(first).unwrap().ended.unwrap().unwrap_err();
        assert_eq!((ended.kind(), ended.remedy()), (ErrorKind::StorageFull, Some("y")));
        runs.begin(9999).unwrap().unwrap();
        assert_eq!(runs.standing(first).err().unwrap().kind(), ErrorKind::NotFound);
    }
}
