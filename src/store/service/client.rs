//! The store in another process: for orchestrators, which pass sealed records on, and for sidecars, which fetch them.

use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::Handle;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::backup::BackupState;
use super::convert::{RotationState, failure, from_wire};
use super::verify::VerifyState;
use super::wire::admin_client::AdminClient;
use super::wire::store_client::StoreClient;
use super::{backup, verify, wire};
use crate::audit::actions::{SignedAction, Taker};
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::limits;
use crate::rotation::RotateOptions;
use crate::server::RemoteOptions;
use crate::server::connect::Connector;
use crate::server::error::from_status;
use crate::sidecar::RecordSource;
use crate::store::{Paused, Terms};
use crate::token::{HandoffRecord, OpenedPlace};
use crate::vectors::SearchRequest;

/// A store in another process. Clones share the connection.
#[derive(Clone)]
pub struct RemoteStore {
    channel: Channel,
    runtime: Handle,
    deadline: Duration,
}

/// Sealed records and the token for them, as they are passed on.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteHandoff {
    /// Best first.
    pub records: Vec<HandoffRecord>,
    /// The exact scores of a search; none for a context window.
    pub scores: Vec<f32>,
    /// COSE_Sign1; empty when nothing was found.
    pub token: Vec<u8>,
    /// Who signed it: the tenant's certificate and the signer's, DER.
    pub issuer: Vec<Vec<u8>>,
}

impl RemoteStore {
    /// A client of the store at `options`' address, which need not be there yet. To be called within a runtime.
    pub fn new(options: RemoteOptions) -> Result<Self> {
        let deadline = Duration::from_millis(options.deadline_ms);
        let channel = Connector::new(options.address, options.own, options.servers)?.channel();
        Ok(Self { channel, runtime: Handle::current(), deadline })
    }

    /// As [`Collection::search_sealed`](crate::Collection::search_sealed).
    pub async fn search_sealed(
        &self,
        tenant: &TenantId,
        collection: &str,
        mut request: SearchRequest,
        terms: &Terms,
    ) -> Result<RemoteHandoff> {
        let asked = wire::SearchSealedRequest {
            tenant: tenant.as_str().to_owned(),
            collection: collection.to_owned(),
            vector: std::mem::take(&mut request.vector),
            limit: u32::try_from(request.limit).map_err(|_| Error::invalid("the limit is too large"))?,
            threshold: request.score_threshold,
            using: request.using.take(),
            exact: request.exact,
            filter: request.filter.take().map_or_else(String::new, |filter| filter.to_json()),
            terms: Some(terms_to_wire(terms)?),
        };
        self.call(asked, |mut client, asked| async move { client.search_sealed(asked).await }).await.map(handoff)
    }

    /// As [`Tenant::seal_context`](crate::Tenant::seal_context).
    pub async fn seal_context(&self, tenant: &TenantId, context: Vec<u8>, terms: &Terms) -> Result<RemoteHandoff> {
        let (tenant, terms) = (tenant.as_str().to_owned(), Some(terms_to_wire(terms)?));
        let asked = wire::SealContextRequest { tenant, context, terms };
        self.call(asked, |mut client, asked| async move { client.seal_context(asked).await }).await.map(handoff)
    }

    /// The tenants that there are, of those that this caller works for.
    pub async fn tenants(&self) -> Result<Vec<TenantId>> {
        let mut client = self.admin();
        let tenants = self.answer(async move { client.tenants(wire::TenantsRequest {}).await }).await?.tenants;
        tenants.iter().map(|tenant| tenant.parse()).collect()
    }

    /// Begins a rotation, and returns at once: `false` when nothing was due. `only_if_due` is to leave alone what is not.
    pub async fn rotate(
        &self,
        tenant: &TenantId,
        suite: Option<&str>,
        options: &RotateOptions,
        only_if_due: bool,
    ) -> Result<bool> {
        let asked = wire::RotateRequest {
            tenant: tenant.as_str().to_owned(),
            only_if_due,
            suite: suite.unwrap_or_default().to_owned(),
            compromised: options.compromised,
            discard_damaged: options.discard_damaged,
            root_key: options.root_key,
        };
        let mut client = self.admin();
        let answer = self.answer(async move { client.rotate(asked).await }).await?;
        Ok(answer.begun || !answer.destroyed.is_empty())
    }

    /// Where the rotation of a tenant stands.
    pub async fn rotation(&self, tenant: &TenantId) -> Result<RotationState> {
        let asked = wire::RotationStatusRequest { tenant: tenant.as_str().to_owned() };
        let mut client = self.admin();
        from_wire(self.answer(async move { client.rotation_status(asked).await }).await?)
    }

    /// Begins a backup to `to`, an absolute path on the store's machine, and returns at once what to ask for it by.
    pub async fn backup(&self, to: &str) -> Result<u64> {
        let (asked, mut client) = (wire::BackupRequest { to: to.to_owned() }, self.admin());
        Ok(self.answer(async move { client.backup(asked).await }).await?.run)
    }

    /// Where a backup stands.
    pub async fn backup_state(&self, run: u64) -> Result<BackupState> {
        let mut client = self.admin();
        let asked = wire::RunStatusRequest { run };
        backup::from_wire(self.answer(async move { client.backup_status(asked).await }).await?)
    }

    /// Begins to verify a tenant, and returns at once what to ask for it by.
    pub async fn verify(&self, tenant: &TenantId) -> Result<u64> {
        let (asked, mut client) = (wire::VerifyRequest { tenant: tenant.as_str().to_owned() }, self.admin());
        Ok(self.answer(async move { client.verify(asked).await }).await?.run)
    }

    /// Where a verification stands.
    pub async fn verify_state(&self, run: u64) -> Result<VerifyState> {
        let mut client = self.admin();
        let asked = wire::RunStatusRequest { run };
        verify::from_wire(self.answer(async move { client.verify_status(asked).await }).await?)
    }

    /// As [`Store::trip_breaker`](crate::Store::trip_breaker).
    pub async fn trip_breaker(&self, tenant: &TenantId) -> Result<bool> {
        let (mut client, asked) = (self.admin(), wire::BreakerRequest { tenant: tenant.as_str().to_owned() });
        Ok(self.answer(async move { client.trip_breaker(asked).await }).await?.changed)
    }

    /// As [`Store::release_breaker`](crate::Store::release_breaker).
    pub async fn release_breaker(&self, tenant: &TenantId) -> Result<bool> {
        let (mut client, asked) = (self.admin(), wire::BreakerRequest { tenant: tenant.as_str().to_owned() });
        Ok(self.answer(async move { client.release_breaker(asked).await }).await?.changed)
    }

    /// The tenants whose reads are paused, of those that this caller works for.
    pub async fn breakers(&self) -> Result<Vec<Paused>> {
        let mut client = self.admin();
        let answer = self.answer(async move { client.breakers(wire::BreakersRequest {}).await }).await?;
        let paused = answer.paused.into_iter().map(|paused| Paused {
            tenant: paused.tenant,
            pseudonym: paused.pseudonym,
            since_ms: paused.since_ms,
            cause: paused.cause,
        });
        Ok(paused.collect())
    }

    /// As [`Store::append_actions`](crate::Store::append_actions).
    pub async fn append_actions(
        &self,
        tenant: &TenantId,
        chain: &[Vec<u8>],
        actions: &[SignedAction],
    ) -> Result<Vec<Result<()>>> {
        let signed = |action: &SignedAction| wire::SignedAction {
            record: action.record.clone(),
            signature: action.signature.clone(),
        };
        let asked = wire::AppendActionsRequest {
            tenant: tenant.as_str().to_owned(),
            chain: chain.to_vec(),
            actions: actions.iter().map(signed).collect(),
        };
        let answer = self.call(asked, |mut client, asked| async move { client.append_actions(asked).await }).await?;
        Ok(answer.outcomes.into_iter().map(|outcome| outcome.failure.map_or(Ok(()), |e| Err(failure(e)))).collect())
    }

    /// Has `work` done by the runtime while this thread waits.
    fn wait<A: Send + 'static>(&self, work: impl Future<Output = Result<A>> + Send + 'static) -> Result<A> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.runtime.spawn(async move {
            // Nobody waits only when the caller is gone.
            let _ = sender.send(work.await);
        });
        receiver.recv().map_err(|e| Error::internal("the client of the store was closed").with_source(e))?
    }

    fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone()).max_decoding_message_size(limits::RPC_BYTES)
    }

    async fn call<Q, A, F>(&self, asked: Q, send: impl FnOnce(StoreClient<Channel>, Request<Q>) -> F) -> Result<A>
    where
        F: Future<Output = Result<tonic::Response<A>, Status>>,
    {
        let client = StoreClient::new(self.channel.clone())
            .max_decoding_message_size(limits::RPC_BYTES)
            .max_encoding_message_size(limits::RPC_BYTES);
        self.answer(send(client, Request::new(asked))).await
    }

    async fn answer<A>(&self, sent: impl Future<Output = Result<tonic::Response<A>, Status>>) -> Result<A> {
        match tokio::time::timeout(self.deadline, sent).await {
            Ok(answer) => answer.map(tonic::Response::into_inner).map_err(from_status),
            Err(_) => {
                let words = format!("the store did not answer within {} ms", self.deadline.as_millis());
                Err(Error::new(ErrorKind::Unavailable, words).with_remedy("try again later"))
            }
        }
    }
}

impl RecordSource for RemoteStore {
    /// Blocks: not to be called on a thread that drives the runtime.
    fn fetch(&self, tenant: &TenantId, place: &OpenedPlace) -> Result<Vec<u8>> {
        let asked = wire::FetchRequest {
            tenant: tenant.as_str().to_owned(),
            scope: place.scope().to_vec(),
            record: place.record().to_vec(),
            version: place.version(),
        };
        let store = self.clone();
        self.wait(async move {
            let fetched = store.call(asked, |mut client, asked| async move { client.fetch(asked).await }).await;
            fetched.map(|answer| answer.sealed)
        })
    }
}

impl Taker for RemoteStore {
    /// Blocks: not to be called on a thread that drives the runtime.
    fn append(&self, tenant: &TenantId, chain: &[Vec<u8>], actions: &[SignedAction]) -> Result<Vec<Result<()>>> {
        let (store, tenant, chain, actions) = (self.clone(), tenant.clone(), chain.to_vec(), actions.to_vec());
        self.wait(async move { store.append_actions(&tenant, &chain, &actions).await })
    }
}

fn terms_to_wire(terms: &Terms) -> Result<wire::Terms> {
    let life_ms = u32::try_from(terms.life_ms).map_err(|_| Error::invalid("a token cannot live that long"))?;
    let (audience, holder) = (terms.audience.as_str().to_owned(), terms.holder.as_bytes().to_vec());
    Ok(wire::Terms { audience, holder, max_uses: terms.max_uses, life_ms })
}

fn handoff(answer: wire::Handoff) -> RemoteHandoff {
    let scores = answer.records.iter().filter_map(|record| record.score).collect();
    let record = |record: wire::SealedRecord| HandoffRecord { place: record.place, sealed: record.sealed };
    let records = answer.records.into_iter().map(record).collect();
    RemoteHandoff { records, scores, token: answer.token, issuer: answer.issuer }
}
