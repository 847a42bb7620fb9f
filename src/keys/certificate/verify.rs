//! Checking a chain against the authority that the caller has pinned. Only here can a [`VerifiedChain`] be made.

use super::contents::{Contents, Kind};
use super::names::Who;
use super::oid::PublicKey;
use super::{Certificate, SignerUse};
use crate::crypto::{Kem, Provider, Signature};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{AgentId, SessionId, TenantId};
use crate::keys::Profile;
use crate::limits;

/// What the caller knows already, and the chain must say too. What is `None` may be anything.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// The tenant.
    pub tenant: Option<TenantId>,
    /// The agent: the chain must then end in a session credential.
    pub agent: Option<AgentId>,
    /// The session: the chain must then end in a session credential.
    pub session: Option<SessionId>,
    /// The profile.
    pub profile: Option<Profile>,
}

/// A chain that [`verify_chain`] has found good, at the time and against the authority that its caller gave.
///
/// ```compile_fail
/// # use strongroom::{TenantId, keys::certificate::VerifiedChain};
/// fn take_over(chain: &mut VerifiedChain, tenant: TenantId) {
///     chain.tenant = tenant; // private, as all its fields are
/// }
/// ```
#[derive(Clone)]
pub struct VerifiedChain {
    tenant: TenantId,
    profile: Profile,
    algorithm: Signature,
    signing_key: Vec<u8>,
    root_key: Vec<u8>,
    session: Option<VerifiedSession>,
    signer: Option<VerifiedSignerKey>,
    not_after_ms: u64,
}

/// The session at the end of a verified chain.
#[derive(Clone)]
pub struct VerifiedSession {
    agent: AgentId,
    id: SessionId,
    kem: Kem,
    key: Vec<u8>,
}

/// The signer at the end of a verified chain.
#[derive(Clone)]
pub struct VerifiedSignerKey {
    agent: AgentId,
    session: SessionId,
    purpose: SignerUse,
    algorithm: Signature,
    key: Vec<u8>,
}

impl VerifiedChain {
    /// The tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The tenant's profile.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// What the tenant signs with, and its verification key.
    pub fn signing_key(&self) -> (Signature, &[u8]) {
        (self.algorithm, &self.signing_key)
    }

    /// The tenant's root key: an ML-KEM-1024 encapsulation key.
    pub fn root_key(&self) -> &[u8] {
        &self.root_key
    }

    /// The session, if the chain goes down to one.
    pub fn session(&self) -> Option<&VerifiedSession> {
        self.session.as_ref()
    }

    /// The signer, if the chain goes down to one.
    pub fn signer(&self) -> Option<&VerifiedSignerKey> {
        self.signer.as_ref()
    }

    /// Until when the whole chain is valid: Unix time in milliseconds. Nothing made of it should live longer.
    pub fn not_after_ms(&self) -> u64 {
        self.not_after_ms
    }
}

impl VerifiedSession {
    /// The agent whose session it is.
    pub fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// The session.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The KEM of the session, and its encapsulation key.
    pub fn key(&self) -> (Kem, &[u8]) {
        (self.kem, &self.key)
    }
}

impl VerifiedSignerKey {
    /// The agent or service that holds the key.
    pub fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// The session that it ends with.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// What it is for.
    pub fn purpose(&self) -> SignerUse {
        self.purpose
    }

    /// What it signs with, and its verification key.
    pub fn key(&self) -> (Signature, &[u8]) {
        (self.algorithm, &self.key)
    }
}

/// Verifies `chain` at `now_ms` (Unix time in milliseconds): the tenant's certificate, and after it the credential of a
/// session or a signer if there is one. `pinned` is the authority that the caller trusts; the chain may begin with the same certificate, but
/// never brings another.
///
/// Verifies one signature per certificate, the authority's own included: some milliseconds with SLH-DSA. Whoever needs
/// the answer often keeps it, until [`VerifiedChain::not_after_ms`].
///
/// Follows RFC 5280, section 6.1, on the narrow form of `schema/certificate.md`. What is refused is
/// [`Denied`](ErrorKind::Denied), with the reason for the operator.
pub fn verify_chain(
    provider: &dyn Provider,
    pinned: &Certificate,
    chain: &[Certificate],
    now_ms: u64,
    expect: &Expect,
) -> Result<VerifiedChain> {
    let (tenant, leaf) = split(pinned, chain)?;
    let authority = read(pinned, "the pinned authority", "authority")?;
    link(provider, &authority, &authority, now_ms)?;
    let tenant = read(tenant, "the tenant's certificate", "tenant")?;
    link(provider, &authority, &tenant, now_ms)?;
    let mut verified = tenant_of(&authority, &tenant)?;
    if let Some(leaf) = leaf {
        let leaf = read_leaf(leaf)?;
        link(provider, &tenant, &leaf, now_ms)?;
        verified.not_after_ms = leaf.not_after_s.saturating_mul(1000);
        check_life(&leaf)?;
        match leaf.kind {
            Kind::Signer { .. } => verified.signer = Some(signer_of(&verified, leaf)?),
            _ => verified.session = Some(session_of(&verified, leaf)?),
        }
    }
    check_expected(&verified, expect)?;
    Ok(verified)
}

/// Whether sessions of `profile` may use `kem`.
pub(super) fn allows(profile: Profile, kem: Kem) -> bool {
    kem == profile.kem() || (profile == Profile::Fips && matches!(kem, Kem::MlKem768 | Kem::MlKem1024))
}

/// Whether signers of `profile` may use `algorithm`. What a signer signs lives for minutes, so in `hybrid` the
/// post-quantum half alone will do: the certificate above has both.
pub(super) fn may_sign(profile: Profile, algorithm: Signature) -> bool {
    algorithm == profile.signature() || (profile == Profile::Hybrid && algorithm == Signature::MlDsa65)
}

/// The certificates below the authority.
fn split<'a>(pinned: &Certificate, chain: &'a [Certificate]) -> Result<(&'a Certificate, Option<&'a Certificate>)> {
    if chain.len() > limits::CHAIN_CERTIFICATES {
        return Err(refused(format!("it has more than {} certificates", limits::CHAIN_CERTIFICATES)));
    }
    let below = match chain.split_first() {
        Some((first, below)) if first.as_der() == pinned.as_der() => below,
        _ => chain,
    };
    match below {
        [tenant] => Ok((tenant, None)),
        [tenant, session] => Ok((tenant, Some(session))),
        [] => Err(refused("there is no tenant's certificate in it")),
        _ => Err(refused("it begins with another authority than the pinned one")),
    }
}

/// Reads one certificate, which must be of the kind that its place asks for.
fn read<'a>(certificate: &'a Certificate, what: &str, kind: &str) -> Result<Contents<'a>> {
    let contents = Contents::read(certificate).map_err(|e| refused(format!("{what} is not well formed: {e}")))?;
    if contents.kind.as_str() != kind {
        return Err(refused(format!("in the place of {what} stands one of kind `{}`", contents.kind.as_str()))
            .with_remedy("give the certificates in the order authority, tenant, session"));
    }
    Ok(contents)
}

/// Reads what stands below a tenant.
fn read_leaf(certificate: &Certificate) -> Result<Contents<'_>> {
    let contents =
        Contents::read(certificate).map_err(|e| refused(format!("the session credential is not well formed: {e}")))?;
    match contents.kind {
        Kind::Session { .. } | Kind::Signer { .. } => Ok(contents),
        _ => Err(refused(format!(
            "in the place of the session credential stands one of kind `{}`",
            contents.kind.as_str()
        ))
        .with_remedy("give the certificates in the order authority, tenant, session")),
    }
}

/// Refuses a credential that is valid for more than a day.
fn check_life(leaf: &Contents<'_>) -> Result<()> {
    let longest_ms = limits::SESSION_CREDENTIAL_MS + limits::CERTIFICATE_SKEW_MS;
    if (leaf.not_after_s - leaf.not_before_s.min(leaf.not_after_s)).saturating_mul(1000) > longest_ms {
        return Err(refused("the session credential is valid for more than a day"));
    }
    Ok(())
}

/// One link: `parent` has issued `child`, and both are valid now. An authority is its own parent.
fn link(provider: &dyn Provider, parent: &Contents<'_>, child: &Contents<'_>, now_ms: u64) -> Result<()> {
    let what = child.kind.as_str();
    if child.tbs.issuer() != parent.tbs.subject() || child.issuer_key_id != parent.key_id {
        return Err(refused(format!("the {what} certificate was issued by somebody else than the one above it")));
    }
    let PublicKey::Signature(algorithm, key) = &parent.key else {
        return Err(refused(format!("the key above the {what} certificate cannot sign")));
    };
    if child.algorithm != *algorithm {
        return Err(refused(format!(
            "the {what} certificate is signed with another algorithm than its issuer's key has"
        )));
    }
    if child.not_before_s < parent.not_before_s || child.not_after_s > parent.not_after_s {
        return Err(refused(format!("the {what} certificate is valid when its issuer's is not")));
    }
    if now_ms / 1000 < child.not_before_s {
        return Err(refused(format!("the {what} certificate is not valid yet")).with_remedy("set the clock right"));
    }
    if now_ms / 1000 > child.not_after_s {
        return Err(refused(format!("the {what} certificate has expired")).with_remedy("ask its issuer for a new one"));
    }
    let signed = child.signed()?;
    provider
        .verify(*algorithm, key, b"", &signed, child.signature)
        .map_err(|e| refused(format!("the signature of the {what} certificate does not verify")).with_source(e))
}

/// What the tenant's certificate gives, once it is linked: its algorithms must be those of its profile.
fn tenant_of(authority: &Contents<'_>, tenant: &Contents<'_>) -> Result<VerifiedChain> {
    let (Kind::Tenant { who, profile, root_key }, PublicKey::Signature(algorithm, key)) = (&tenant.kind, &tenant.key)
    else {
        return Err(refused("the tenant's key cannot sign"));
    };
    if tenant.algorithm != profile.authority_signature() || *algorithm != profile.signature() {
        let (by, has) = (tenant.algorithm.as_str(), algorithm.as_str());
        return Err(refused(format!("a key for {has} certified with {by} is not what the profile `{profile}` has")));
    }
    Ok(VerifiedChain {
        tenant: who.tenant().clone(),
        profile: *profile,
        algorithm: *algorithm,
        signing_key: key.clone(),
        root_key: root_key.clone(),
        session: None,
        signer: None,
        not_after_ms: tenant.not_after_s.min(authority.not_after_s).saturating_mul(1000),
    })
}

/// What the session credential gives, once it is linked: tenant and profile must be those of the certificate above.
fn session_of(above: &VerifiedChain, session: Contents<'_>) -> Result<VerifiedSession> {
    let (Kind::Session { who: Who::Session(tenant, agent, id), profile }, PublicKey::Kem(kem, key)) =
        (session.kind, session.key)
    else {
        return Err(refused("the session's key is not a KEM key"));
    };
    if tenant != above.tenant {
        return Err(refused("the session credential is of another tenant than its issuer"));
    }
    if profile != above.profile || !allows(profile, kem) {
        return Err(refused(format!("the session credential does not keep to the profile `{}`", above.profile)));
    }
    Ok(VerifiedSession { agent, id, kem, key })
}

/// What a signer's credential gives, once it is linked.
fn signer_of(above: &VerifiedChain, signer: Contents<'_>) -> Result<VerifiedSignerKey> {
    let (
        Kind::Signer { who: Who::Session(tenant, agent, session), profile, purpose },
        PublicKey::Signature(algorithm, key),
    ) = (signer.kind, signer.key)
    else {
        return Err(refused("the signer's key cannot sign"));
    };
    if tenant != above.tenant {
        return Err(refused("the signer's credential is of another tenant than its issuer"));
    }
    if profile != above.profile || !may_sign(profile, algorithm) {
        return Err(refused(format!("the signer's credential does not keep to the profile `{}`", above.profile)));
    }
    Ok(VerifiedSignerKey { agent, session, purpose, algorithm, key })
}

fn check_expected(verified: &VerifiedChain, expect: &Expect) -> Result<()> {
    if expect.tenant.as_ref().is_some_and(|tenant| *tenant != verified.tenant) {
        return Err(refused(format!("it is of the tenant `{}`, not of the expected one", verified.tenant.as_str())));
    }
    if expect.profile.is_some_and(|profile| profile != verified.profile) {
        return Err(refused(format!("its profile is `{}`, not the expected one", verified.profile)));
    }
    let leaf = match (verified.session(), verified.signer()) {
        (Some(session), _) => Some((&session.agent, session.id)),
        (None, signer) => signer.map(|signer| (&signer.agent, signer.session)),
    };
    if (expect.agent.is_some() || expect.session.is_some()) && leaf.is_none() {
        return Err(refused("it does not end in a session credential"));
    }
    if expect.agent.as_ref().is_some_and(|agent| leaf.is_none_or(|(of, _)| of != agent)) {
        return Err(refused("it is of another agent than the expected one"));
    }
    if expect.session.is_some_and(|id| leaf.is_none_or(|(_, of)| of != id)) {
        return Err(refused("it is of another session than the expected one"));
    }
    Ok(())
}

/// A chain that is not to be relied on, and why.
fn refused(reason: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Denied, format!("the certificate chain is refused: {reason}"))
        .with_remedy("do not use these keys; `strongroom cert show` tells what the certificates say")
}
