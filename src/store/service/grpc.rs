//! The gRPC service: it translates, and checks who may ask for which tenant.

use axum::Router;
use axum::http::header;
use axum::routing::get;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::admin::Admin;
use super::convert::failure_to_wire;
use super::wire::{self, admin_server, store_server};
use crate::audit::Reason;
use crate::audit::actions::SignedAction;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Filter;
use crate::id::TenantId;
use crate::keys::kms::{Caller, Role};
use crate::limits;
use crate::server::Known;
use crate::server::error::{answer, to_status};
use crate::store::{Handoff, Store, Tenant, Terms};
use crate::vectors::SearchRequest;

/// Everything that a store serves: for [`crate::server::serve`].
pub async fn routes(store: Store) -> Router {
    let service = store_server::StoreServer::new(Service(store.clone()))
        .max_decoding_message_size(limits::RPC_BYTES)
        .max_encoding_message_size(limits::RPC_BYTES);
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<store_server::StoreServer<Service>>().await;
    let nothing = async || answer(axum::http::StatusCode::NOT_FOUND, &Error::not_found("there is nothing here"));
    let shown = store.clone();
    let metrics = get(async move || {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(header::CONTENT_TYPE, kind)], shown.metrics())
    });
    let admin = admin_server::AdminServer::new(Admin::new(store.clone()));
    let routes = Routes::new(service).add_service(admin).add_service(health_service).into_axum_router();
    routes.route("/metrics", metrics).fallback(nothing)
}

struct Service(Store);

impl Service {
    /// The tenant, if the caller has the role and works for it.
    async fn tenant<Q>(&self, request: &Request<Q>, role: Role, tenant: &str) -> Result<Tenant, Status> {
        let (caller, tenant) = permitted(&self.0, request, role, tenant).map_err(|e| to_status(&e))?;
        let tenant = self.0.tenant(&tenant).await.map_err(|e| to_status(&e))?;
        Ok(tenant.asked_by(&caller))
    }
}

#[tonic::async_trait]
impl store_server::Store for Service {
    async fn search_sealed(
        &self,
        request: Request<wire::SearchSealedRequest>,
    ) -> Result<Response<wire::Handoff>, Status> {
        let tenant = self.tenant(&request, Role::Agent, &request.get_ref().tenant).await?;
        let handoff = search(&tenant, request.into_inner()).await.map_err(|e| to_status(&e))?;
        Ok(Response::new(to_wire(handoff)))
    }

    async fn seal_context(
        &self,
        request: Request<wire::SealContextRequest>,
    ) -> Result<Response<wire::Handoff>, Status> {
        let tenant = self.tenant(&request, Role::Agent, &request.get_ref().tenant).await?;
        let mut asked = request.into_inner();
        let sealed = match terms(asked.terms.take()) {
            Ok(terms) => tenant.seal_context(std::mem::take(&mut asked.context), terms).await,
            Err(e) => Err(e),
        };
        Ok(Response::new(to_wire(sealed.map_err(|e| to_status(&e))?)))
    }

    async fn fetch(&self, request: Request<wire::FetchRequest>) -> Result<Response<wire::FetchResponse>, Status> {
        let tenant = self.tenant(&request, Role::Sidecar, &request.get_ref().tenant).await?;
        let asked = request.into_inner();
        let fixed = |bytes: &[u8]| bytes.try_into().map_err(|_| Error::invalid("an id has 16 bytes"));
        let sealed = match (fixed(&asked.scope), fixed(&asked.record)) {
            (Ok(scope), Ok(record)) => tenant.fetch_sealed(scope, record, asked.version).await,
            (Err(e), _) | (_, Err(e)) => Err(e),
        };
        sealed.map(|sealed| Response::new(wire::FetchResponse { sealed })).map_err(|e| to_status(&e))
    }

    async fn append_actions(
        &self,
        request: Request<wire::AppendActionsRequest>,
    ) -> Result<Response<wire::AppendActionsResponse>, Status> {
        let (_, tenant) =
            permitted(&self.0, &request, Role::Agent, &request.get_ref().tenant).map_err(|e| to_status(&e))?;
        let asked = request.into_inner();
        let actions =
            asked.actions.into_iter().map(|action| SignedAction { record: action.record, signature: action.signature });
        let answers =
            self.0.append_actions(&tenant, asked.chain, actions.collect()).await.map_err(|e| to_status(&e))?;
        let outcomes =
            answers.iter().map(|answer| wire::ActionOutcome { failure: answer.as_ref().err().map(failure_to_wire) });
        Ok(Response::new(wire::AppendActionsResponse { outcomes: outcomes.collect() }))
    }
}

/// Who asks.
fn known<Q>(request: &Request<Q>) -> Result<&Caller> {
    let known = request.extensions().get::<Known>();
    Ok(known.ok_or_else(|| Error::internal("a request came in without its caller"))?.caller())
}

/// Who asks, if that is a service with the role. A refusal is written down first.
pub(super) fn caller<Q>(store: &Store, request: &Request<Q>, role: Role) -> Result<Caller> {
    let caller = known(request)?;
    if caller.role() == role {
        return Ok(caller.clone());
    }
    store.refused(caller, None, Reason::Role)?;
    let (service, has) = (caller.service(), caller.role());
    let message = format!("service `{service}` is a {has} and may not ask a store for this");
    Err(Error::new(ErrorKind::Denied, message).with_remedy(format!("use a service with the role {role}")))
}

/// Who asks and the tenant that is asked about, if the caller has the role and works for it. A refusal is written down
/// first.
pub(super) fn permitted<Q>(
    store: &Store,
    request: &Request<Q>,
    role: Role,
    tenant: &str,
) -> Result<(Caller, TenantId)> {
    let caller = caller(store, request, role)?;
    let named = tenant.parse::<TenantId>().ok();
    // The same words whether there is such a tenant or not.
    match named.as_ref().filter(|tenant| caller.works_for(tenant)) {
        Some(tenant) => Ok((caller, tenant.clone())),
        None => {
            store.refused(&caller, named.as_ref(), Reason::Scope)?;
            Err(Error::new(ErrorKind::Denied, format!("service `{}` does not work for this tenant", caller.service()))
                .with_remedy("add the tenant to the service's scope in the configuration, if it should"))
        }
    }
}

async fn search(tenant: &Tenant, mut asked: wire::SearchSealedRequest) -> Result<Handoff> {
    let limit = usize::try_from(asked.limit).map_err(|_| Error::invalid("the limit is too large"))?;
    let mut request = SearchRequest::new(std::mem::take(&mut asked.vector), limit);
    request.score_threshold = asked.threshold;
    request.using = asked.using.take();
    request.exact = asked.exact;
    if !asked.filter.is_empty() {
        request.filter = Some(Filter::from_json(asked.filter.as_bytes())?);
    }
    tenant.collection(&asked.collection)?.search_sealed(request, terms(asked.terms.take())?).await
}

fn terms(asked: Option<wire::Terms>) -> Result<Terms> {
    let asked = asked.ok_or_else(|| Error::invalid("the request does not say for whom the token is to be"))?;
    let mut terms = Terms::once(asked.audience.parse()?, asked.holder.as_slice().try_into()?);
    if asked.max_uses != 0 {
        terms.max_uses = asked.max_uses;
    }
    if asked.life_ms != 0 {
        terms.life_ms = u64::from(asked.life_ms);
    }
    Ok(terms)
}

fn to_wire(handoff: Handoff) -> wire::Handoff {
    let scores = handoff.scores.into_iter().map(Some).chain(std::iter::repeat(None));
    let records = handoff.records.into_iter().zip(scores);
    let record = |(record, score): (crate::token::HandoffRecord, Option<f32>)| wire::SealedRecord {
        place: record.place,
        sealed: record.sealed,
        score,
    };
    let token = handoff.token.map(|token| token.as_bytes().to_vec()).unwrap_or_default();
    wire::Handoff { records: records.map(record).collect(), token, issuer: handoff.issuer }
}
