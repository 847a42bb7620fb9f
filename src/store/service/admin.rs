//! What those ask who answer for the store: rotations of tenants, backups, verifications, and where they stand.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tonic::{Request, Response, Status};

use super::backup::Backups;
use super::convert::{RotationState, to_wire};
use super::grpc::{caller, permitted};
use super::verify::Verifications;
use super::wire::{self, admin_server};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::keys::kms::{Caller, Role};
use crate::keys::policy::Due;
use crate::rotation::{Phase, RotateOptions, RotationStatus};
use crate::server::error::to_status;
use crate::store::rotation::under_way;
use crate::store::{Paused, Store};

/// The service, and the rotations that it was asked for.
pub(super) struct Admin {
    store: Store,
    runs: Runs,
    backups: Backups,
    verifications: Verifications,
}

type Runs = Arc<Mutex<HashMap<TenantId, Run>>>;

/// A rotation that was asked for.
enum Run {
    /// With what it said last.
    Going(Option<Box<RotationStatus>>),
    Failed(Error),
}

impl Admin {
    pub(super) fn new(store: Store) -> Self {
        let (backups, verifications) = (Backups::new(store.clone()), Verifications::new(store.clone()));
        Self { store, runs: Arc::default(), backups, verifications }
    }

    fn permitted<Q>(&self, request: &Request<Q>, tenant: &str) -> Result<(Caller, TenantId), Status> {
        permitted(&self.store, request, Role::Admin, tenant).map_err(|e| to_status(&e))
    }

    async fn state(&self, tenant: &TenantId) -> Result<RotationState> {
        let stored = self.store.rotation(tenant).await?;
        let due = is_due(&self.store, tenant, &stored).await?;
        let runs = self.runs.lock();
        let (running, said, failure) = match runs.get(tenant) {
            Some(Run::Going(said)) => (true, said.as_deref().cloned(), None),
            Some(Run::Failed(e)) => (false, None, Some(copy(e))),
            None => (false, None, None),
        };
        Ok(RotationState { status: said.unwrap_or(stored), due, running, failure })
    }

    /// Begins, unless nothing is due.
    async fn begin(&self, tenant: TenantId, asked: wire::RotateRequest) -> Result<wire::RotateResponse> {
        let suite = (!asked.suite.is_empty()).then_some(asked.suite.as_str());
        let options = RotateOptions {
            suite: self.store.suite_of(&tenant, suite).await?,
            root_key: asked.root_key,
            compromised: asked.compromised,
            discard_damaged: asked.discard_damaged,
            in_windows: false,
        };
        if matches!(self.runs.lock().get(&tenant), Some(Run::Going(_))) {
            return Err(under_way());
        }
        let destroyed = self.store.destroy_retained(&tenant).await?;
        let destroyed = destroyed.iter().map(|destroyed| destroyed.epoch.as_u32()).collect();
        if asked.only_if_due && !is_due(&self.store, &tenant, &self.store.rotation(&tenant).await?).await? {
            return Ok(wire::RotateResponse { begun: false, destroyed });
        }
        {
            let mut runs = self.runs.lock();
            if matches!(runs.get(&tenant), Some(Run::Going(_))) {
                return Err(under_way());
            }
            runs.insert(tenant.clone(), Run::Going(None));
        }
        let (store, runs) = (self.store.clone(), self.runs.clone());
        tokio::spawn(async move {
            let (watched, name) = (runs.clone(), tenant.clone());
            let watch = move |status: &RotationStatus| {
                watched.lock().insert(name.clone(), Run::Going(Some(Box::new(status.clone()))));
            };
            let done = store.rotate(&tenant, options, watch).await;
            let mut runs = runs.lock();
            match done {
                Ok(_) => _ = runs.remove(&tenant),
                Err(e) => {
                    tracing::warn!(error = %e, "a rotation that was asked for failed");
                    runs.insert(tenant, Run::Failed(e));
                }
            }
        });
        Ok(wire::RotateResponse { begun: true, destroyed })
    }
}

/// Without what it came from, which stays here.
pub(super) fn copy(e: &Error) -> Error {
    let made = Error::new(e.kind(), e.to_string());
    match e.remedy() {
        Some(remedy) => made.with_remedy(remedy),
        None => made,
    }
}

/// Whether a tenant's epoch is due, or a rotation of it was interrupted.
pub(crate) async fn is_due(store: &Store, tenant: &TenantId, status: &RotationStatus) -> Result<bool> {
    let interrupted = status.phase != Phase::Idle || !status.from.is_empty();
    let due = store.due(tenant).await?;
    Ok(interrupted || due.iter().any(|due| matches!(due, Due::Rotate { .. })))
}

#[tonic::async_trait]
impl admin_server::Admin for Admin {
    async fn tenants(&self, request: Request<wire::TenantsRequest>) -> Result<Response<wire::TenantsResponse>, Status> {
        let caller = caller(&self.store, &request, Role::Admin).map_err(|e| to_status(&e))?;
        let tenants = self.store.tenants().await.map_err(|e| to_status(&e))?;
        let tenants = tenants.into_iter().filter(|tenant| caller.works_for(tenant));
        Ok(Response::new(wire::TenantsResponse { tenants: tenants.map(|t| t.as_str().to_owned()).collect() }))
    }

    async fn rotate(&self, request: Request<wire::RotateRequest>) -> Result<Response<wire::RotateResponse>, Status> {
        let (_, tenant) = self.permitted(&request, &request.get_ref().tenant)?;
        self.begin(tenant, request.into_inner()).await.map(Response::new).map_err(|e| to_status(&e))
    }

    async fn rotation_status(
        &self,
        request: Request<wire::RotationStatusRequest>,
    ) -> Result<Response<wire::RotationState>, Status> {
        let (_, tenant) = self.permitted(&request, &request.get_ref().tenant)?;
        let state = self.state(&tenant).await.and_then(|state| to_wire(&state));
        state.map(Response::new).map_err(|e| to_status(&e))
    }
    async fn backup(&self, request: Request<wire::BackupRequest>) -> Result<Response<wire::RunResponse>, Status> {
        let begun = super::backup::permitted(&self.store, &request)
            .and_then(|by| self.backups.begin(&request.get_ref().to, by));
        begun.map(|run| Response::new(wire::RunResponse { run })).map_err(|e| to_status(&e))
    }

    async fn backup_status(
        &self,
        request: Request<wire::RunStatusRequest>,
    ) -> Result<Response<wire::BackupState>, Status> {
        let state =
            super::backup::permitted(&self.store, &request).and_then(|_| self.backups.state(request.get_ref().run));
        state.map(Response::new).map_err(|e| to_status(&e))
    }

    async fn verify(&self, request: Request<wire::VerifyRequest>) -> Result<Response<wire::RunResponse>, Status> {
        let (_, tenant) = self.permitted(&request, &request.get_ref().tenant)?;
        let begun = self.verifications.begin(tenant).await;
        begun.map(|run| Response::new(wire::RunResponse { run })).map_err(|e| to_status(&e))
    }

    async fn verify_status(
        &self,
        request: Request<wire::RunStatusRequest>,
    ) -> Result<Response<wire::VerifyState>, Status> {
        let caller = caller(&self.store, &request, Role::Admin).map_err(|e| to_status(&e))?;
        let state = self.verifications.state(&caller, request.get_ref().run);
        state.map(Response::new).map_err(|e| to_status(&e))
    }

    async fn trip_breaker(
        &self,
        request: Request<wire::BreakerRequest>,
    ) -> Result<Response<wire::BreakerResponse>, Status> {
        let (caller, tenant) = self.permitted(&request, &request.get_ref().tenant)?;
        let changed = self.store.trip_as(&caller, &tenant).await.map_err(|e| to_status(&e))?;
        Ok(Response::new(wire::BreakerResponse { changed }))
    }

    async fn release_breaker(
        &self,
        request: Request<wire::BreakerRequest>,
    ) -> Result<Response<wire::BreakerResponse>, Status> {
        let (caller, tenant) = self.permitted(&request, &request.get_ref().tenant)?;
        let changed = self.store.release_as(&caller, &tenant).await.map_err(|e| to_status(&e))?;
        Ok(Response::new(wire::BreakerResponse { changed }))
    }

    async fn breakers(
        &self,
        request: Request<wire::BreakersRequest>,
    ) -> Result<Response<wire::BreakersResponse>, Status> {
        let caller = caller(&self.store, &request, Role::Admin).map_err(|e| to_status(&e))?;
        let paused = self.store.breakers().await.map_err(|e| to_status(&e))?.into_iter();
        let works_for = |paused: &Paused| match paused.tenant.as_ref().and_then(|tenant| tenant.parse().ok()) {
            Some(tenant) => caller.works_for(&tenant),
            None => caller.works_for_all(),
        };
        let paused = paused.filter(works_for).map(|paused| wire::PausedTenant {
            tenant: paused.tenant,
            pseudonym: paused.pseudonym,
            since_ms: paused.since_ms,
            cause: paused.cause,
        });
        Ok(Response::new(wire::BreakersResponse { paused: paused.collect() }))
    }
}
