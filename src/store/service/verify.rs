//! Verifications that a service is asked for: how far they are, and what was found.

use std::sync::Arc;

use uuid::Uuid;

use super::convert::{bad, failure, failure_to_wire};
use super::runs::Runs;
use super::wire;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::keys::kms::Caller;
use crate::limits;
use crate::memory::MemoryReport;
use crate::store::{Store, TenantReport};
use crate::vectors::CollectionReport;

/// What a service says of a verification.
#[derive(Debug)]
pub struct VerifyState {
    /// How many points it has looked at.
    pub points: u64,
    /// What was found, or why nothing was; `None` while it goes on. Of each kind of damage the first 1000 records.
    pub ended: Option<Result<TenantReport>>,
}

/// The verifications that were asked for.
pub(super) struct Verifications {
    store: Store,
    runs: Arc<Runs<TenantId, u64, Arc<TenantReport>>>,
}

impl Verifications {
    pub(super) fn new(store: Store) -> Self {
        Self { store, runs: Arc::new(Runs::new()) }
    }

    /// Begins one, which goes on by itself.
    pub(super) async fn begin(&self, id: TenantId) -> Result<u64> {
        let tenant = self.store.tenant(&id).await?;
        let busy = || {
            Error::new(ErrorKind::Busy, "the tenant is being verified already")
                .with_remedy("wait until that is done, then ask again")
        };
        let run = self.runs.begin(id)?.ok_or_else(busy)?;
        let runs = self.runs.clone();
        tokio::spawn(async move {
            let watched = runs.clone();
            let found = tenant.verify(move |points| watched.moved(run, points)).await;
            runs.ended(run, found.map(Arc::new));
        });
        Ok(run)
    }

    /// Where one stands, for who works for its tenant.
    pub(super) fn state(&self, caller: &Caller, run: u64) -> Result<wire::VerifyState> {
        let standing = self.runs.standing(run)?;
        if !caller.works_for(&standing.key) {
            return Err(Error::new(
                ErrorKind::Denied,
                format!("service `{}` does not work for this tenant", caller.service()),
            )
            .with_remedy("add the tenant to the service's scope in the configuration, if it should"));
        }
        let (verified, failure) = match &standing.ended {
            None => (None, None),
            Some(Ok(found)) => (Some(to_wire(found)), None),
            Some(Err(e)) => (None, Some(failure_to_wire(e))),
        };
        Ok(wire::VerifyState { running: standing.ended.is_none(), points: standing.at, verified, failure })
    }
}

fn to_wire(found: &TenantReport) -> wire::Verified {
    let MemoryReport { sound, history, dropped, unknown, damaged } = found.memories;
    wire::Verified {
        collections: found.collections.iter().map(|(name, report)| collection_to_wire(name, report)).collect(),
        memory_embeddings: found.memory_embeddings.as_ref().map(|report| collection_to_wire("", report)),
        memories: Some(wire::VerifiedMemories { sound, history, dropped, unknown, damaged }),
    }
}

fn collection_to_wire(name: &str, report: &CollectionReport) -> wire::VerifiedCollection {
    let named =
        |records: &[Uuid]| records.iter().take(limits::VERIFY_NAMED).map(|record| record.as_bytes().to_vec()).collect();
    wire::VerifiedCollection {
        name: name.to_owned(),
        sound: report.sound,
        dropped: named(&report.dropped),
        unknown: named(&report.unknown),
        damaged: named(&report.damaged),
    }
}

pub(super) fn from_wire(state: wire::VerifyState) -> Result<VerifyState> {
    let ended = match (state.running, state.verified, state.failure) {
        (true, None, None) => None,
        (false, None, Some(e)) => Some(Err(failure(e))),
        (false, Some(verified), None) => Some(Ok(report(verified)?)),
        _ => return Err(bad()),
    };
    Ok(VerifyState { points: state.points, ended })
}

fn report(verified: wire::Verified) -> Result<TenantReport> {
    let wire::VerifiedMemories { sound, history, dropped, unknown, damaged } = verified.memories.ok_or_else(bad)?;
    let mut found = TenantReport {
        memories: MemoryReport { sound, history, dropped, unknown, damaged },
        memory_embeddings: verified.memory_embeddings.map(collection).transpose()?,
        ..TenantReport::default()
    };
    for one in verified.collections {
        found.collections.insert(one.name.clone(), collection(one)?);
    }
    Ok(found)
}

fn collection(verified: wire::VerifiedCollection) -> Result<CollectionReport> {
    let named = |records: Vec<Vec<u8>>| -> Result<Vec<Uuid>> {
        records.iter().map(|record| Uuid::from_slice(record).map_err(|_| bad())).collect()
    };
    Ok(CollectionReport {
        sound: verified.sound,
        dropped: named(verified.dropped)?,
        unknown: named(verified.unknown)?,
        damaged: named(verified.damaged)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_arrives_as_it_was_sent() {
        let found = |n: u128| CollectionReport {
            sound: 1,
            dropped: vec![Uuid::from_u128(n)],
            unknown: vec![Uuid::from_u128(n + 1), Uuid::from_u128(n + 2)],
            damaged: Vec::new(),
        };
        let sent = TenantReport {
            collections: [("docs".to_owned(), found(1)), ("notes".to_owned(), found(7))].into(),
            memory_embeddings: Some(found(20)),
            memories: MemoryReport { sound: 1, history: 2, dropped: 3, unknown: 4, damaged: 5 },
        };
        let wire = wire::VerifyState { points: 6, verified: Some(to_wire(&sent)), ..Default::default() };
        let arrived = from_wire(wire.clone()).unwrap();
        let text = |report: &TenantReport| serde_json::to_string(report).unwrap();
        assert_eq!((arrived.points, text(&arrived.ended.unwrap().unwrap())), (6, text(&sent)));
        let mut spoilt = wire.clone();
        spoilt.verified.as_mut().unwrap().collections[0].dropped[0].pop();
        assert!(from_wire(spoilt).is_err());
        assert!(from_wire(wire::VerifyState { running: true, ..wire.clone() }).is_err());
        assert!(from_wire(wire::VerifyState { verified: None, ..wire }).is_err());
    }
}
