//! An inference node's side: keeps a contact with a sidecar, proves, redeems, and opens what was sealed for it.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;
use tonic::Status;
use tonic::transport::Channel;

use super::redeem::{RedeemRequest, Token, Wanted, unseal};
use super::wire::sidecar_client::SidecarClient;
use super::{convert, wire};
use crate::audit::alert::Trip;
use crate::clock::{Clock, SystemClock};
use crate::crypto::default_provider;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::limits;
use crate::secret::SecretBytes;
use crate::server::connect::Connector;
use crate::server::error::from_status;
use crate::server::{Address, Own, ServerTrust};
use crate::token::{Audience, Form, Holder, HolderContact, RecordKind, Revocation};

/// How to reach a sidecar.
pub struct ClientOptions {
    /// Where it listens.
    pub address: Address,
    /// Over TCP: the certificate by which it knows this caller.
    pub own: Option<Own>,
    /// Over TCP: which servers are believed to be the sidecar.
    pub servers: ServerTrust,
    /// What tokens call it.
    pub audience: Audience,
    /// In which form records are asked for.
    pub form: Form,
    /// How long a redeem may take, retries while the sidecar is busy included, in milliseconds.
    pub deadline_ms: u64,
}

/// An opened record. Erased when dropped.
pub struct Redeemed {
    /// What it is.
    pub kind: RecordKind,
    /// The text of a chunk, or the context window.
    pub content: SecretBytes,
    /// The metadata of a chunk: JSON.
    pub metadata: Option<SecretBytes>,
}

/// A client of one sidecar, for one holder. Clones share contact and connection.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    channel: Channel,
    holder: Holder,
    audience: Audience,
    form: Form,
    deadline: Duration,
    contact: AsyncMutex<Option<Arc<HolderContact>>>,
    /// Tokens that the sidecar has seen, by SHA-256.
    seen: Mutex<HashSet<[u8; 32]>>,
}

impl Client {
    /// A client for `holder`. The sidecar need not be there yet. Needs a runtime.
    pub fn new(options: ClientOptions, holder: Holder) -> Result<Self> {
        let channel = Connector::new(options.address, options.own, options.servers)?.channel();
        Ok(Self(Arc::new(Shared {
            channel,
            holder,
            audience: options.audience,
            form: options.form,
            deadline: Duration::from_millis(options.deadline_ms),
            contact: AsyncMutex::default(),
            seen: Mutex::default(),
        })))
    }

    /// The holder.
    pub fn holder(&self) -> &Holder {
        &self.0.holder
    }

    /// Has `records` opened by `token`, which `issuer` (DER: the tenant's certificate and the signer's) issued. The
    /// records come in the order in which they were asked for. One use of the token, even if it fails.
    ///
    /// # Errors
    ///
    /// [`Denied`](ErrorKind::Denied) when the sidecar refuses, for whatever reason; [`Busy`](ErrorKind::Busy) when it was
    /// busy until the deadline.
    pub async fn redeem(&self, token: &[u8], issuer: &[Vec<u8>], records: &[Wanted]) -> Result<Vec<Redeemed>> {
        let digest = default_provider().sha256(&[token]);
        let attempt = async || self.attempt(&digest, token, issuer, records).await;
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(1))
            .with_max_delay(Duration::from_millis(500))
            .without_max_times()
            .with_jitter();
        // Nothing was counted when it was busy.
        let answer = attempt.retry(pauses).sleep(tokio::time::sleep).when(|e| e.kind() == ErrorKind::Busy);
        match tokio::time::timeout(self.0.deadline, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(ErrorKind::Busy, "the sidecar did not answer in time")
                .with_remedy("try again later, or allow more time; the token's use may be counted")),
        }
    }

    /// Revokes, for a caller who is an admin there.
    pub async fn revoke(&self, revocation: &Revocation) -> Result<()> {
        let asked = convert::revocation_to_wire(revocation, 0);
        self.call(|mut client| async move { client.revoke(asked).await }).await.map(|_| ())
    }

    /// Takes a revocation back, and says whether there was one.
    pub async fn lift(&self, revocation: &Revocation) -> Result<bool> {
        let asked = convert::revocation_to_wire(revocation, 0);
        Ok(self.call(|mut client| async move { client.lift(asked).await }).await?.lifted)
    }

    /// What is revoked, and since when.
    pub async fn revocations(&self) -> Result<Vec<(Revocation, u64)>> {
        let asked = wire::RevocationsRequest {};
        let answer = self.call(|mut client| async move { client.revocations(asked).await }).await?;
        answer.revocations.into_iter().map(|r| (r.at_ms, convert::revocation(r))).map(|(at, r)| Ok((r?, at))).collect()
    }

    /// Has nothing opened for a tenant any more, for a caller who is an admin there. Says whether that is new.
    pub async fn pause(&self, tenant: &TenantId) -> Result<bool> {
        let asked = wire::PauseRequest { tenant: tenant.as_str().to_owned() };
        Ok(self.call(|mut client| async move { client.pause(asked).await }).await?.changed)
    }

    /// Has records opened again for a tenant. Says whether that is new.
    pub async fn release(&self, tenant: &TenantId) -> Result<bool> {
        let asked = wire::PauseRequest { tenant: tenant.as_str().to_owned() };
        Ok(self.call(|mut client| async move { client.release(asked).await }).await?.changed)
    }

    /// The tenants for whom nothing is opened, by what the sidecar's audit log calls them.
    pub async fn paused(&self) -> Result<Vec<(String, Trip)>> {
        let answer = self.call(|mut client| async move { client.paused(wire::PausedRequest {}).await }).await?;
        let paused = answer.paused.into_iter();
        Ok(paused.map(|p| (p.pseudonym, Trip { since_ms: p.since_ms, cause: p.cause })).collect())
    }

    /// One try, and another with all that the sidecar may have forgotten.
    async fn attempt(
        &self,
        digest: &[u8; 32],
        token: &[u8],
        issuer: &[Vec<u8>],
        records: &[Wanted],
    ) -> Result<Vec<Redeemed>> {
        let whole = Token::Whole { bytes: token.to_vec(), issuer: issuer.to_vec() };
        if self.0.seen.lock().contains(digest) {
            match self.send(digest, Token::Known(*digest), records).await {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                other => return other,
            }
        }
        let answer = self.send(digest, whole, records).await?;
        let mut seen = self.0.seen.lock();
        if seen.len() >= limits::VERIFIED_TOKENS {
            seen.clear();
        }
        seen.insert(*digest);
        Ok(answer)
    }

    /// Sends a request, and once more in a new contact: a sidecar that was started anew knows nothing of the old one.
    async fn send(&self, digest: &[u8; 32], token: Token, records: &[Wanted]) -> Result<Vec<Redeemed>> {
        let (contact, is_new) = self.contact(None).await?;
        match self.send_in(&contact, digest, token.clone(), records).await {
            Err(e) if e.kind() == ErrorKind::Denied && !is_new => {
                let (contact, _) = self.contact(Some(contact.id())).await?;
                self.send_in(&contact, digest, token, records).await
            }
            other => other,
        }
    }

    async fn send_in(
        &self,
        contact: &HolderContact,
        digest: &[u8; 32],
        token: Token,
        records: &[Wanted],
    ) -> Result<Vec<Redeemed>> {
        let asked: Vec<_> = records.iter().map(|wanted| wanted.asked.clone()).collect();
        let proof = contact.prove(digest, &asked, self.0.form);
        let (counter, form) = (proof.counter, self.0.form);
        let request = RedeemRequest { contact: *contact.id(), proof, token, form, records: records.to_vec() };
        let asked = convert::request_to_wire(request);
        let mut stream = self.call(|mut client| async move { client.redeem_batch(asked).await }).await?;
        let mut redeemed = Vec::with_capacity(records.len());
        while let Some(record) = stream.message().await.map_err(from_status)? {
            let index = u32::try_from(redeemed.len()).map_err(|_| Error::internal("too many records"))?;
            redeemed.push(self.take(contact, counter, index, record)?);
        }
        if redeemed.len() == records.len() {
            return Ok(redeemed);
        }
        Err(Error::internal(format!("the sidecar answered {} of {} records", redeemed.len(), records.len())))
    }

    fn take(
        &self,
        contact: &HolderContact,
        counter: u64,
        index: u32,
        mut record: wire::OpenedRecord,
    ) -> Result<Redeemed> {
        let kind = convert::kind(&record)?;
        let (content, metadata) = match self.0.form {
            Form::Sealed => unseal(contact, counter, index, &record.content, record.metadata.as_deref())?,
            Form::Clear => {
                let metadata = record.metadata.take().map(SecretBytes::new);
                (SecretBytes::new(std::mem::take(&mut record.content)), metadata)
            }
        };
        Ok(Redeemed { kind, content, metadata })
    }

    /// The contact, and whether it was just made: anew before it ends, and when it is the one that was `refused`.
    async fn contact(&self, refused: Option<&[u8; 16]>) -> Result<(Arc<HolderContact>, bool)> {
        let mut slot = self.0.contact.lock().await;
        // The sidecar's clock may be a little ahead.
        let soon_ms = SystemClock.now_ms().saturating_add(limits::TOKEN_SKEW_MS);
        if let Some(contact) =
            slot.as_ref().filter(|contact| contact.expires_at_ms() > soon_ms && refused != Some(contact.id()))
        {
            return Ok((contact.clone(), false));
        }
        let hello = self.0.holder.hello()?;
        let asked = convert::hello_to_wire(&hello);
        let welcome = self.call(|mut client| async move { client.contact(asked).await }).await?;
        let contact = self.0.holder.meet(&self.0.audience, &hello, &convert::welcome(welcome)?)?;
        Ok((slot.insert(Arc::new(contact)).clone(), true))
    }

    async fn call<A, F>(&self, send: impl FnOnce(SidecarClient<Channel>) -> F) -> Result<A>
    where
        F: Future<Output = Result<tonic::Response<A>, Status>>,
    {
        let client = SidecarClient::new(self.0.channel.clone())
            .max_decoding_message_size(limits::RPC_BYTES)
            .max_encoding_message_size(limits::RPC_BYTES);
        send(client).await.map(tonic::Response::into_inner).map_err(from_status)
    }
}
