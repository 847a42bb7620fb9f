//! The key service as its callers see it from another process: the same traits, over a socket.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable as _};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{ConnectError, Request, Response, Status};

use super::error::{as_many, from_status, from_wire, not_accepted};
use super::listen::Address;
use super::trust::ServerTrust;
use super::wire::key_admin_client::KeyAdminClient;
use super::wire::kms_client::KmsClient;
use super::{connect::Connector, convert, convert_roots, convert_signers, tls, wire};
use crate::crypto::{self, SuiteId};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{AgentId, Epoch, SessionId, TenantId};
use crate::keys::certificate::SignerUse;
use crate::keys::keystore::{Destroyed, DestroyedRootKey};
use crate::keys::kms::{
    Decapsulation, DekRequest, Encapsulated, KeyAdmin, Kms, Onboarded, PublicTenant, Recipient, Session, Signed,
    SignerCredential, SignerRequest,
};
use crate::keys::{DataKeys, EpochKeys, EpochRecord, Fingerprint, Label, Profile, TenantRecord, VerifiedSigner};
use crate::limits;
use crate::secret::Secret;

/// How to reach a key service, and how long to wait for it.
pub struct RemoteOptions {
    /// Where it listens.
    pub address: Address,
    /// Over TCP: the certificate by which the service knows this caller.
    pub own: Option<tls::Own>,
    /// Over TCP: which servers are believed to be the service.
    pub servers: ServerTrust,
    /// How long a call may take, retries included, in milliseconds.
    pub deadline_ms: u64,
}

impl RemoteOptions {
    /// At `address`, with the default deadline.
    pub fn new(address: Address) -> Self {
        Self { address, own: None, servers: ServerTrust::default(), deadline_ms: limits::RPC_DEADLINE_MS }
    }

    /// With these certificates: one's own, and by SHA-256 those that the service may have.
    #[must_use]
    pub fn tls(mut self, own: tls::Own, server_sha256: impl IntoIterator<Item = [u8; 32]>) -> Self {
        self.own = Some(own);
        self.servers = server_sha256.into_iter().collect();
        self
    }

    /// With one's own certificate, to those servers.
    #[must_use]
    pub fn trusting(mut self, own: tls::Own, servers: ServerTrust) -> Self {
        self.own = Some(own);
        self.servers = servers;
        self
    }
}

/// A key service in another process.
///
/// Calls may come from any thread and block it. A connection is made by the first call, and made again when it is lost;
/// a call that may be repeated is repeated, with pauses that grow, until its deadline.
#[derive(Clone)]
pub struct RemoteKms {
    link: Arc<Link>,
}

struct Link {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    connector: Connector,
    channel: Shared,
    /// Whether the service has turned down the latest connection.
    refused: Arc<AtomicBool>,
    deadline: Duration,
}

/// The connection, while it is used, and when it was used last. What it has read and written lies in its buffers until it
/// ends, keys too.
type Shared = Arc<Mutex<Option<(Channel, Instant)>>>;

/// After how long without a call the connection ends.
const IDLE: Duration = Duration::from_millis(limits::RPC_IDLE_MS);

impl Link {
    fn runtime(&self) -> Result<&Runtime> {
        self.runtime.as_ref().ok_or_else(|| Error::internal("the client of the key service was closed"))
    }

    /// The connection, made if there is none.
    fn channel(&self) -> Result<Channel> {
        let mut slot = self.channel.lock();
        if let Some((channel, used)) = &mut *slot {
            *used = Instant::now();
            return Ok(channel.clone());
        }
        let runtime = self.runtime()?;
        let channel = {
            let _entered = runtime.enter();
            self.connector.clone().channel()
        };
        *slot = Some((channel.clone(), Instant::now()));
        runtime.spawn(end_when_idle(self.channel.clone()));
        Ok(channel)
    }
}

async fn end_when_idle(channel: Shared) {
    loop {
        tokio::time::sleep(IDLE).await;
        let mut slot = channel.lock();
        if slot.as_ref().is_none_or(|(_, used)| used.elapsed() >= IDLE) {
            *slot = None;
            return;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Waiting for a runtime's end is not allowed within another.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Whether a call may be sent again when nobody knows what became of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Always,
    /// Only when it was never sent.
    Unsent,
}

impl RemoteKms {
    /// A client of the service at `options`' address, which need not be there yet.
    pub fn new(options: RemoteOptions) -> Result<Self> {
        let connector = Connector::new(options.address, options.own, options.servers)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("strongroom-kms-client")
            .enable_all()
            .build()?;
        let refused = connector.refused();
        let deadline = Duration::from_millis(options.deadline_ms);
        let link = Link { runtime: Some(runtime), connector, channel: Shared::default(), refused, deadline };
        Ok(Self { link: Arc::new(link) })
    }

    /// Sends `message` with `send`, again if need be, and waits for the answer.
    fn call<Q, A, F>(
        &self,
        repeat: Repeat,
        message: Q,
        send: impl Fn(Channel, Request<Q>) -> F + Send + 'static,
    ) -> Result<A>
    where
        Q: prost::Message + Clone + Send + Sync + 'static,
        A: Send + 'static,
        F: Future<Output = Result<Response<A>, Status>> + Send,
    {
        if message.encoded_len() > limits::RPC_BYTES {
            return Err(Error::invalid(format!("a request has more than {} MiB", limits::RPC_BYTES >> 20))
                .with_remedy("split the request"));
        }
        let (channel, deadline) = (self.link.channel()?, self.link.deadline);
        let [shortest, longest] = limits::RPC_WAIT_MS.map(Duration::from_millis);
        let pauses = ExponentialBuilder::default()
            .with_min_delay(shortest)
            .with_max_delay(longest)
            .with_max_times(limits::RPC_ATTEMPTS - 1)
            .with_jitter();
        let attempt = move || {
            let mut request = Request::new(message.clone());
            request.set_timeout(deadline);
            send(channel.clone(), request)
        };
        let refused = self.link.refused.clone();
        let work = async move {
            let turned_down = || refused.load(Ordering::SeqCst);
            let again = |status: &Status| again(repeat, status) && !turned_down();
            let answer = attempt.retry(pauses).sleep(tokio::time::sleep).when(again);
            match tokio::time::timeout(deadline, answer).await {
                Ok(Err(status)) if turned_down() => Err(not_accepted().with_source(status)),
                Ok(answer) => answer.map(Response::into_inner).map_err(from_status),
                Err(_) => {
                    let words = format!("the key service did not answer within {} ms", deadline.as_millis());
                    Err(Error::new(ErrorKind::Unavailable, words).with_remedy("try again later, or allow more time"))
                }
            }
        };
        let (sender, receiver) = mpsc::sync_channel(1);
        self.link.runtime()?.spawn(async move { sender.send(work.await) });
        receiver.recv().map_err(|e| Error::internal("the client of the key service was closed").with_source(e))?
    }

    fn kms<Q, A, F>(&self, repeat: Repeat, message: Q, send: fn(KmsClient<Channel>, Request<Q>) -> F) -> Result<A>
    where
        Q: prost::Message + Clone + Send + Sync + 'static,
        A: Send + 'static,
        F: Future<Output = Result<Response<A>, Status>> + Send + 'static,
    {
        self.call(repeat, message, move |channel, request| {
            let client = KmsClient::new(channel)
                .max_decoding_message_size(limits::RPC_BYTES)
                .max_encoding_message_size(limits::RPC_BYTES);
            send(client, request)
        })
    }

    fn admin<Q, A, F>(
        &self,
        repeat: Repeat,
        message: Q,
        send: fn(KeyAdminClient<Channel>, Request<Q>) -> F,
    ) -> Result<A>
    where
        Q: prost::Message + Clone + Send + Sync + 'static,
        A: Send + 'static,
        F: Future<Output = Result<Response<A>, Status>> + Send + 'static,
    {
        self.call(repeat, message, move |channel, request| {
            let client = KeyAdminClient::new(channel)
                .max_decoding_message_size(limits::RPC_BYTES)
                .max_encoding_message_size(limits::RPC_BYTES);
            send(client, request)
        })
    }
}

fn again(repeat: Repeat, status: &Status) -> bool {
    let passing = from_status_kind(status) == ErrorKind::Unavailable;
    passing && (repeat == Repeat::Always || never_sent(status))
}

/// As [`from_status`], without what it says.
fn from_status_kind(status: &Status) -> ErrorKind {
    let mut copy = Status::new(status.code(), "");
    *copy.metadata_mut() = status.metadata().clone();
    from_status(copy).kind()
}

/// Whether there was no connection to send anything on.
fn never_sent(status: &Status) -> bool {
    let mut at = std::error::Error::source(status);
    while let Some(error) = at {
        if error.is::<ConnectError>() {
            return true;
        }
        at = error.source();
    }
    false
}

fn named(tenant: &TenantId) -> String {
    tenant.as_str().to_owned()
}

fn few(items: usize) -> Result<()> {
    if items > limits::KMS_ITEMS {
        return Err(Error::invalid(format!("a request has more than {} items", limits::KMS_ITEMS))
            .with_remedy("split the request"));
    }
    Ok(())
}

impl Kms for RemoteKms {
    fn describe(&self, tenant: &TenantId) -> Result<TenantRecord> {
        let asked = wire::DescribeRequest { tenant: named(tenant) };
        let answer = self.kms(Repeat::Always, asked, |mut to, asked| async move { to.describe(asked).await })?;
        convert::record(answer)
    }

    fn open_session(&self, tenant: &TenantId, agent: &AgentId, lifetime_ms: u64) -> Result<Session> {
        let asked = wire::OpenSessionRequest { tenant: named(tenant), agent: agent.as_str().to_owned(), lifetime_ms };
        let answer = self.kms(Repeat::Unsent, asked, |mut to, asked| async move { to.open_session(asked).await })?;
        convert::session(answer)
    }

    fn revoke_session(&self, tenant: &TenantId, session: SessionId) -> Result<()> {
        let asked = wire::RevokeSessionRequest { tenant: named(tenant), session: session.as_bytes().to_vec() };
        self.kms(Repeat::Unsent, asked, |mut to, asked| async move { to.revoke_session(asked).await })?;
        Ok(())
    }

    fn encapsulate(&self, tenant: &TenantId, to: &[Recipient]) -> Result<Vec<Result<Encapsulated>>> {
        few(to.len())?;
        let asked =
            wire::EncapsulateRequest { tenant: named(tenant), to: to.iter().map(convert::recipient_to_wire).collect() };
        let answer = self.kms(Repeat::Unsent, asked, |mut to, asked| async move { to.encapsulate(asked).await })?;
        as_many(to.len(), answer.results)?.into_iter().map(convert::encapsulated).collect()
    }

    fn decapsulate(&self, tenant: &TenantId, items: &[Decapsulation]) -> Result<Vec<Result<Secret<32>>>> {
        few(items.len())?;
        let asked = wire::DecapsulateRequest {
            tenant: named(tenant),
            items: items.iter().map(convert::decapsulation_to_wire).collect(),
        };
        let mut answer = self.kms(Repeat::Always, asked, |mut to, asked| async move { to.decapsulate(asked).await })?;
        as_many(items.len(), std::mem::take(&mut answer.results))?.into_iter().map(convert::key).collect()
    }

    fn sign(&self, tenant: &TenantId, messages: &[&[u8]]) -> Result<Vec<Result<Vec<u8>>>> {
        few(messages.len())?;
        let asked =
            wire::SignRequest { tenant: named(tenant), messages: messages.iter().map(|m| m.to_vec()).collect() };
        let answer = self.kms(Repeat::Always, asked, |mut to, asked| async move { to.sign(asked).await })?;
        as_many(messages.len(), answer.results)?.into_iter().map(convert::signature).collect()
    }

    fn verify(&self, tenant: &TenantId, items: &[Signed<'_>]) -> Result<Vec<Result<()>>> {
        few(items.len())?;
        let item = |item: &Signed<'_>| wire::SignedMessage {
            message: item.message.to_vec(),
            signature: item.signature.to_vec(),
        };
        let asked = wire::VerifyRequest { tenant: named(tenant), items: items.iter().map(item).collect() };
        let answer = self.kms(Repeat::Always, asked, |mut to, asked| async move { to.verify(asked).await })?;
        let result = |result: wire::VerifyResult| result.error.map_or(Ok(()), |error| Err(from_wire(error)));
        Ok(as_many(items.len(), answer.results)?.into_iter().map(result).collect())
    }

    fn certify_signer(&self, tenant: &TenantId, request: &SignerRequest) -> Result<SignerCredential> {
        let asked = convert_signers::request_to_wire(tenant, request);
        let answer = self.kms(Repeat::Unsent, asked, |mut to, asked| async move { to.certify_signer(asked).await })?;
        convert_signers::credential(answer)
    }

    fn believe_signer(&self, tenant: &TenantId, purpose: SignerUse, chain: &[Vec<u8>]) -> Result<VerifiedSigner> {
        let asked = wire::BelieveSignerRequest {
            tenant: named(tenant),
            r#use: convert_signers::purpose_to_wire(purpose),
            chain: chain.to_vec(),
        };
        let answer = self.kms(Repeat::Always, asked, |mut to, asked| async move { to.believe_signer(asked).await })?;
        let thumbprint = crypto::default_provider().sha256(&[chain.last().map_or(&[][..], Vec::as_slice)]);
        convert_signers::believed(answer, thumbprint)
    }

    fn derive_deks(&self, tenant: &TenantId, items: &[DekRequest]) -> Result<Vec<Result<Secret<32>>>> {
        few(items.len())?;
        let asked =
            wire::DeriveDekRequest { tenant: named(tenant), items: items.iter().map(convert::dek_to_wire).collect() };
        let mut answer = self.kms(Repeat::Always, asked, |mut to, asked| async move { to.derive_dek(asked).await })?;
        as_many(items.len(), std::mem::take(&mut answer.results))?.into_iter().map(convert::key).collect()
    }
}

impl KeyAdmin for RemoteKms {
    fn tenants(&self) -> Result<Vec<TenantId>> {
        let asked = wire::ListTenantsRequest {};
        let answer = self.admin(Repeat::Always, asked, |mut to, asked| async move { to.list_tenants(asked).await })?;
        answer.tenants.iter().map(|tenant| tenant.parse()).collect()
    }

    fn onboard(&self, tenant: &TenantId, profile: Profile, agent: Option<&AgentId>) -> Result<Onboarded> {
        let asked = wire::OnboardRequest {
            tenant: named(tenant),
            profile: convert::profile_to_wire(profile),
            agent: agent.map(|agent| agent.as_str().to_owned()),
        };
        let answer = self.admin(Repeat::Unsent, asked, |mut to, asked| async move { to.onboard(asked).await })?;
        convert::onboarded(answer)
    }

    fn create_epoch(&self, tenant: &TenantId, suite: Option<SuiteId>) -> Result<EpochRecord> {
        let asked =
            wire::CreateEpochRequest { tenant: named(tenant), suite: suite.map_or(0, |suite| suite.as_u16().into()) };
        let answer = self.admin(Repeat::Unsent, asked, |mut to, asked| async move { to.create_epoch(asked).await })?;
        convert::epoch_record(answer)
    }

    fn activate_epoch(&self, tenant: &TenantId, epoch: Epoch) -> Result<EpochRecord> {
        let asked = of_epoch(tenant, epoch);
        let answer =
            self.admin(Repeat::Unsent, asked, |mut to, asked| async move { to.activate_epoch(asked).await })?;
        convert::epoch_record(answer)
    }

    fn deactivate_epoch(&self, tenant: &TenantId, epoch: Epoch) -> Result<EpochRecord> {
        let asked = of_epoch(tenant, epoch);
        let answer =
            self.admin(Repeat::Unsent, asked, |mut to, asked| async move { to.deactivate_epoch(asked).await })?;
        convert::epoch_record(answer)
    }

    fn mark_epoch_compromised(&self, tenant: &TenantId, epoch: Epoch) -> Result<EpochRecord> {
        let asked = of_epoch(tenant, epoch);
        let answer =
            self.admin(Repeat::Unsent, asked, |mut to, asked| async move { to.mark_epoch_compromised(asked).await })?;
        convert::epoch_record(answer)
    }

    fn destroy_epoch(&self, tenant: &TenantId, epoch: Epoch) -> Result<Destroyed> {
        let asked = of_epoch(tenant, epoch);
        let answer = self.admin(Repeat::Unsent, asked, |mut to, asked| async move { to.destroy_epoch(asked).await })?;
        convert::destroyed(&answer)
    }

    fn rotate_root_key(&self, tenant: &TenantId, replaces: &Fingerprint) -> Result<TenantRecord> {
        let asked = wire::RotateRootKeyRequest { tenant: named(tenant), replaces: replaces.to_string() };
        let answer =
            self.admin(Repeat::Unsent, asked, |mut to, asked| async move { to.rotate_root_key(asked).await })?;
        convert::record(answer)
    }

    fn destroy_root_key(&self, tenant: &TenantId, root_key: &Fingerprint) -> Result<DestroyedRootKey> {
        let asked = wire::DestroyRootKeyRequest { tenant: named(tenant), root_key: root_key.to_string() };
        let answer =
            self.admin(Repeat::Unsent, asked, |mut to, asked| async move { to.destroy_root_key(asked).await })?;
        convert_roots::destroyed(&answer)
    }

    fn shred(&self, tenant: &TenantId) -> Result<TenantRecord> {
        let asked = wire::ShredRequest { tenant: named(tenant) };
        let answer = self.admin(Repeat::Unsent, asked, |mut to, asked| async move { to.shred(asked).await })?;
        convert::record(answer)
    }

    fn is_shredded(&self, tenant: &TenantId) -> Result<bool> {
        let asked = wire::IsShreddedRequest { tenant: named(tenant) };
        let answer = self.admin(Repeat::Always, asked, |mut to, asked| async move { to.is_shredded(asked).await })?;
        Ok(answer.shredded)
    }

    fn public(&self, tenant: &TenantId) -> Result<PublicTenant> {
        let asked = wire::PublicRequest { tenant: named(tenant) };
        let answer = self.admin(Repeat::Always, asked, |mut to, asked| async move { to.public(asked).await })?;
        convert::public(answer)
    }
}

fn of_epoch(tenant: &TenantId, epoch: Epoch) -> wire::EpochRequest {
    wire::EpochRequest { tenant: named(tenant), epoch: epoch.as_u32() }
}

impl DataKeys for RemoteKms {
    fn tenant(&self, tenant: &TenantId) -> Result<TenantRecord> {
        self.describe(tenant)
    }

    /// Asks nothing yet: whether the epoch opens is found out with the first key.
    fn epoch_keys(&self, tenant: &TenantId, epoch: Epoch) -> Result<Box<dyn EpochKeys>> {
        Ok(Box::new(RemoteEpoch { kms: self.clone(), tenant: tenant.clone(), epoch }))
    }
}

/// The keys of one epoch, which the service derives.
struct RemoteEpoch {
    kms: RemoteKms,
    tenant: TenantId,
    epoch: Epoch,
}

impl EpochKeys for RemoteEpoch {
    fn dek(&self, label: Label, scope: &[u8]) -> Result<Secret<32>> {
        let request = DekRequest { label, epoch: self.epoch, scope: scope.to_vec() };
        let answer = self.kms.derive_deks(&self.tenant, &[request])?.pop();
        answer.ok_or_else(|| Error::internal("the key service answered nothing"))?
    }
}
