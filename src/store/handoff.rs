//! Handing data on without showing it: what a search finds, or a whole context window, leaves sealed, with a capability
//! token that lets one named holder have it opened by one named sidecar.

use std::sync::Arc;

use uuid::Uuid;

use crate::audit::{Access, Outcome, RecordDigest, RecordType, What, hex};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::keys::Signers;
use crate::limits;
use crate::secret::SecretBytes;
use crate::token::{self, Audience, ChunkPlace, Digest, HandoffRecord, HolderId, MintRequest, Operation, Token};
use crate::vectors::SearchRequest;

use super::audit::Desk;
use super::foreground::Class;
use super::{Collection, Store, Tenant, blocking, tenant};

/// For whom a token is, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The sidecar that may redeem it.
    pub audience: Audience,
    /// Who may have it redeemed.
    pub holder: HolderId,
    /// How often: 1 to [`limits::TOKEN_USES`].
    pub max_uses: u32,
    /// How long, in milliseconds: 1 000 to [`limits::TOKEN_LIFE_MS`].
    pub life_ms: u64,
}

impl Terms {
    /// Once, within five minutes.
    pub fn once(audience: Audience, holder: HolderId) -> Self {
        Self { audience, holder, max_uses: 1, life_ms: limits::TOKEN_LIFE_MS }
    }
}

/// Sealed records and the token for them.
pub struct Handoff {
    /// Best first.
    pub records: Vec<HandoffRecord>,
    /// The exact scores of a search, as many as there are records; none for a context window.
    pub scores: Vec<f32>,
    /// `None` when nothing was found.
    pub token: Option<Token>,
    /// Who signed it: the tenant's certificate and the signer's, DER.
    pub issuer: Vec<Vec<u8>>,
}

/// What an open tenant mints tokens with.
pub(super) struct Minting {
    pub(super) signers: Arc<Signers>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Collection {
    /// The nearest chunks, best first, still sealed, and one token for all of them.
    ///
    /// # Errors
    ///
    /// Those of a search, and those of [`Kms::certify_signer`](crate::keys::kms::Kms::certify_signer) when the tenant has
    /// no signer yet.
    pub async fn search_sealed(&self, request: SearchRequest, terms: Terms) -> Result<Handoff> {
        if request.limit > limits::REDEEM_RECORDS {
            return Err(Error::invalid(format!("a sealed search finds at most {}", limits::REDEEM_RECORDS)));
        }
        let _timed = self.tenant.foreground.time(Class::Search);
        self.desk.check()?;
        let own = self.clone();
        blocking(move || {
            let found = own.inner.search_sealed(&request);
            let hits = own.desk.opened(RecordType::Chunk, || own.place(), found)?;
            let scores = hits.iter().map(|hit| hit.score).collect();
            let record = |chunk: crate::vectors::SealedChunk| {
                let (scope, record) = (chunk.scope, chunk.record.into_bytes());
                let place = ChunkPlace { scope, record, version: chunk.version, embedding: chunk.embedding };
                token::of_chunk(own.tenant.keyring(), &place, chunk.sealed)
            };
            let records = hits.into_iter().map(|hit| record(hit.chunk)).collect::<Result<_>>()?;
            own.tenant.mint(&own.desk, records, scores, &terms)
        })
        .await
    }
}

impl Tenant {
    /// Seals a context window, which is kept nowhere else, and mints a token for it.
    pub async fn seal_context(&self, context: Vec<u8>, terms: Terms) -> Result<Handoff> {
        self.desk.check()?;
        let (own, context) = (self.clone(), SecretBytes::new(context));
        blocking(move || {
            let record = token::seal_context(own.open.keyring(), context.expose_secret())?;
            own.open.mint(&own.desk, vec![record], Vec::new(), &terms)
        })
        .await
    }
}

impl Store {
    /// The sealed payload of a chunk, by what its place says.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when it was deleted or written again.
    pub async fn fetch_sealed(
        &self,
        tenant: &TenantId,
        scope: [u8; 16],
        record: [u8; 16],
        version: u64,
    ) -> Result<Vec<u8>> {
        let tenant = self.tenant(tenant).await?;
        tenant.fetch_sealed(scope, record, version).await
    }
}

impl Tenant {
    pub(super) async fn fetch_sealed(&self, scope: [u8; 16], record: [u8; 16], version: u64) -> Result<Vec<u8>> {
        self.desk.check()?;
        let tenant = self.clone();
        blocking(move || {
            let all = tenant.open.catalog.all();
            let found = all.into_iter().find(|collection| *collection.id().as_bytes() == scope);
            let collection = found.ok_or_else(|| Error::not_found("the collection has been dropped"))?;
            let sealed = collection.fetch_sealed(&Uuid::from_bytes(record), version)?;
            tenant.desk.read(Access::Fetch, Some(hex(&scope)), &RecordDigest::from_iter([record]), sealed.len())?;
            Ok(sealed)
        })
        .await
    }
}

impl tenant::Open {
    fn mint(&self, desk: &Desk, records: Vec<HandoffRecord>, scores: Vec<f32>, terms: &Terms) -> Result<Handoff> {
        if records.is_empty() {
            return Ok(Handoff { records, scores, token: None, issuer: Vec::new() });
        }
        let keyring = self.keyring();
        let (provider, tenant) = (keyring.provider(), keyring.tenant());
        let signer = self.minting.signers.of(tenant)?;
        let digests: Vec<Digest> = records.iter().map(|record| record.digest(provider, tenant)).collect();
        let request = MintRequest {
            audience: &terms.audience,
            holder: &terms.holder,
            operation: Operation::Decrypt,
            records: &digests,
            max_uses: terms.max_uses,
            life_ms: terms.life_ms,
        };
        let token = token::mint(provider, &signer, &request, self.minting.clock.now_ms())?;
        let all: Vec<u8> = digests.iter().flat_map(|digest| digest.as_bytes()).copied().collect();
        let what = What::TokenMinted {
            token: token.claims().id.to_string(),
            holder: terms.holder.to_string(),
            uses: terms.max_uses,
            records: u32::try_from(digests.len()).unwrap_or(u32::MAX),
            digest: hex(&provider.sha256(&[&all])),
        };
        desk.record(what, Outcome::Done)?;
        Ok(Handoff { records, scores, token: Some(token), issuer: signer.chain().to_vec() })
    }
}
