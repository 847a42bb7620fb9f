//! Making certificates: the authority's own, a tenant's below it, a session's below that.

use ml_dsa::signature::Keypair;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder as _, CertificateBuilder};
use x509_cert::der::asn1::{BitString, OctetString};
use x509_cert::der::flagset::FlagSet;
use x509_cert::der::{DateTime, Document, Encode as _};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, BasicConstraints, KeyUsage, KeyUsages, SubjectKeyIdentifier};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{DynSignatureAlgorithmIdentifier, EncodePublicKey, SubjectPublicKeyInfoRef};
use x509_cert::time::Validity;
use x509_cert::{AlgorithmIdentifier, SubjectPublicKeyInfo, TbsCertificate};

use super::contents::{Contents, Kind};
use super::names::{self, Who};
use super::oid::{PROFILE, PublicKey, ROOT_KEY, SIGNER_USE, encoding, signature_id};
use super::{Certificate, SignerUse};
use crate::crypto::{Kem, Provider, Signature, SigningKey};
use crate::error::{Error, Result};
use crate::id::{AgentId, SessionId, TenantId};
use crate::keys::{Fingerprint, Profile};
use crate::limits;
use crate::secret::Secret;

/// Length of a key identifier in bytes: the leftmost 160 bits of a SHA-256 (RFC 7093, section 2, method 1).
const KEY_ID_LEN: usize = 20;

/// What a tenant's certificate says.
pub struct TenantSubject<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// Its profile; `algorithm` must be the one that the profile has.
    pub profile: Profile,
    /// What it signs with.
    pub algorithm: Signature,
    /// Its verification key, of `algorithm`'s length.
    pub signing_key: &'a [u8],
    /// Its root key: an ML-KEM-1024 encapsulation key, 1568 bytes.
    pub root_key: &'a [u8],
}

/// What a session credential says, besides the tenant and profile, which it takes from the tenant's certificate.
pub struct SessionSubject<'a> {
    /// The agent whose session it is.
    pub agent: &'a AgentId,
    /// The session.
    pub session: SessionId,
    /// The KEM of the session key; the profile must allow it.
    pub kem: Kem,
    /// The session's encapsulation key, of `kem`'s length.
    pub session_key: &'a [u8],
}

/// What a signer's credential says, besides the tenant and profile, which it takes from the tenant's certificate.
pub struct SignerSubject<'a> {
    /// The agent or service that holds the key.
    pub agent: &'a AgentId,
    /// The session that it ends with.
    pub session: SessionId,
    /// What the key is for.
    pub purpose: SignerUse,
    /// What it signs with; the profile must allow it.
    pub algorithm: Signature,
    /// Its verification key, of `algorithm`'s length.
    pub public_key: &'a [u8],
}

/// The certificate of an authority, signed by itself: ten years from `now_ms` (Unix time in milliseconds).
///
/// Whoever trusts it must have got its very bytes in a way they trust.
pub fn issue_authority(provider: &dyn Provider, key: &dyn SigningKey, now_ms: u64) -> Result<Certificate> {
    let public = PublicKey::signature(key.algorithm(), key.public_key())?;
    let name = names::authority(&Fingerprint::of(provider, key.public_key()))?;
    let mut extensions = ca_extensions(1, KeyUsages::KeyCertSign.into())?;
    let key_id = key_id(provider, &public);
    extensions.extend(key_ids(&key_id, &key_id)?);
    let validity =
        (now_ms.saturating_sub(limits::CERTIFICATE_SKEW_MS), after(now_ms, limits::AUTHORITY_CERTIFICATE_MS));
    Draft { subject: name.clone(), issuer: name, extensions }.sign(key, &public, validity)
}

/// The certificate of a tenant: two years from `now_ms`, or to the end of the authority's, if that is earlier.
///
/// Refused when `key` is not the key of `authority`, which must be valid now, and when the algorithms are not those of
/// the profile.
pub fn issue_tenant(
    provider: &dyn Provider,
    key: &dyn SigningKey,
    authority: &Certificate,
    subject: &TenantSubject<'_>,
    now_ms: u64,
) -> Result<Certificate> {
    let issuer = Contents::read(authority)?;
    if !matches!(issuer.kind, Kind::Authority) {
        return Err(Error::invalid("the certificate of the issuer is not an authority's"));
    }
    check_issuer(&issuer, key, now_ms)?;
    if key.algorithm() != subject.profile.authority_signature() || subject.algorithm != subject.profile.signature() {
        return Err(Error::invalid(format!("the profile `{}` does not have these algorithms", subject.profile)));
    }
    let who = Who::Tenant(subject.tenant.clone());
    let public = PublicKey::signature(subject.algorithm, subject.signing_key)?;
    let root = PublicKey::kem(Kem::MlKem1024, subject.root_key)?.to_spki()?;
    let mut extensions = ca_extensions(0, KeyUsages::KeyCertSign | KeyUsages::DigitalSignature)?;
    extensions.extend(key_ids(&key_id(provider, &public), &issuer.key_id)?);
    extensions.extend(naming(&who, subject.profile)?);
    extensions.push(extension((ROOT_KEY, false, &root))?);
    let validity =
        (begin(&issuer, now_ms), after(now_ms, limits::TENANT_CERTIFICATE_MS).min(issuer.not_after_s * 1000));
    Draft { subject: who.subject()?, issuer: issuer.tbs.subject().clone(), extensions }.sign(key, &public, validity)
}

/// The credential of a session: until `not_after_ms`, at most a day, and not longer than the tenant's certificate.
///
/// Refused when `key` is not the key of `tenant`, which must be valid now, and when the profile does not allow the KEM.
pub fn issue_session(
    provider: &dyn Provider,
    key: &dyn SigningKey,
    tenant: &Certificate,
    subject: &SessionSubject<'_>,
    not_after_ms: u64,
    now_ms: u64,
) -> Result<Certificate> {
    let below = Below::of(tenant, key, not_after_ms, now_ms)?;
    if !super::verify::allows(below.profile, subject.kem) {
        return Err(Error::invalid(format!("the profile `{}` does not have this KEM", below.profile)));
    }
    let public = PublicKey::kem(subject.kem, subject.session_key)?;
    let usage = vec![extension(&KeyUsage(KeyUsages::KeyEncipherment.into()))?];
    below.issue(provider, key, (subject.agent, subject.session), &public, usage)
}

/// The credential of a signer: until `not_after_ms`, at most a day, and not longer than the tenant's certificate.
///
/// Refused when `key` is not the key of `tenant`, which must be valid now, and when the profile does not allow the
/// algorithm.
pub fn issue_signer(
    provider: &dyn Provider,
    key: &dyn SigningKey,
    tenant: &Certificate,
    subject: &SignerSubject<'_>,
    not_after_ms: u64,
    now_ms: u64,
) -> Result<Certificate> {
    let below = Below::of(tenant, key, not_after_ms, now_ms)?;
    if !super::verify::may_sign(below.profile, subject.algorithm) {
        return Err(Error::invalid(format!("the profile `{}` does not have this signature scheme", below.profile)));
    }
    let public = PublicKey::signature(subject.algorithm, subject.public_key)?;
    let purpose = extension((SIGNER_USE, true, &subject.purpose.as_str().to_owned()))?;
    let usage = vec![extension(&KeyUsage(KeyUsages::DigitalSignature.into()))?, purpose];
    below.issue(provider, key, (subject.agent, subject.session), &public, usage)
}

/// A tenant that issues, to what is below it.
struct Below<'a> {
    issuer: Contents<'a>,
    tenant: TenantId,
    profile: Profile,
    validity: (u64, u64),
}

impl<'a> Below<'a> {
    fn of(tenant: &'a Certificate, key: &dyn SigningKey, not_after_ms: u64, now_ms: u64) -> Result<Self> {
        let issuer = Contents::read(tenant)?;
        let Kind::Tenant { who: tenant, profile, .. } = &issuer.kind else {
            return Err(Error::invalid("the certificate of the issuer is not a tenant's"));
        };
        check_issuer(&issuer, key, now_ms)?;
        if not_after_ms <= now_ms || not_after_ms - now_ms > limits::SESSION_CREDENTIAL_MS {
            return Err(Error::invalid("a session credential must end in the future, within a day"));
        }
        if not_after_ms / 1000 > issuer.not_after_s {
            return Err(Error::invalid("the session would end after the tenant's certificate")
                .with_remedy("renew the tenant's certificate, or ask for a shorter session"));
        }
        let (tenant, profile, validity) = (tenant.tenant().clone(), *profile, (begin(&issuer, now_ms), not_after_ms));
        Ok(Self { issuer, tenant, profile, validity })
    }

    fn issue(
        self,
        provider: &dyn Provider,
        key: &dyn SigningKey,
        (agent, session): (&AgentId, SessionId),
        public: &PublicKey,
        mut extensions: Vec<Extension>,
    ) -> Result<Certificate> {
        let who = Who::Session(self.tenant, agent.clone(), session);
        extensions.extend(key_ids(&key_id(provider, public), &self.issuer.key_id)?);
        extensions.extend(naming(&who, self.profile)?);
        let issuer = self.issuer.tbs.subject().clone();
        Draft { subject: who.subject()?, issuer, extensions }.sign(key, public, self.validity)
    }
}

/// Whether `key` is what `issuer` certifies, now.
fn check_issuer(issuer: &Contents<'_>, key: &dyn SigningKey, now_ms: u64) -> Result<()> {
    if issuer.key != PublicKey::signature(key.algorithm(), key.public_key())? {
        return Err(Error::invalid("the signing key is not the one in the issuer's certificate"));
    }
    if now_ms / 1000 < issuer.not_before_s || now_ms / 1000 > issuer.not_after_s {
        return Err(Error::invalid("the issuer's certificate is not valid now")
            .with_remedy("renew the issuer's certificate, or set the clock right"));
    }
    Ok(())
}

/// When a certificate begins, in milliseconds: some time ago, but not before its issuer's.
fn begin(issuer: &Contents<'_>, now_ms: u64) -> u64 {
    now_ms.saturating_sub(limits::CERTIFICATE_SKEW_MS).max(issuer.not_before_s * 1000)
}

fn after(now_ms: u64, ms: u64) -> u64 {
    now_ms.saturating_add(ms)
}

fn key_id(provider: &dyn Provider, key: &PublicKey) -> Vec<u8> {
    provider.sha256(&[key.bytes()]).into_iter().take(KEY_ID_LEN).collect()
}

fn ca_extensions(path_len: u8, usages: FlagSet<KeyUsages>) -> Result<Vec<Extension>> {
    let constraints = BasicConstraints { ca: true, path_len_constraint: Some(path_len) };
    Ok(vec![extension(&constraints)?, extension(&KeyUsage(usages))?])
}

fn key_ids(own: &[u8], issuer: &[u8]) -> Result<[Extension; 2]> {
    let id = |bytes: &[u8]| OctetString::new(bytes).map_err(encoding);
    let authority = AuthorityKeyIdentifier { key_identifier: Some(id(issuer)?), ..Default::default() };
    Ok([extension(&SubjectKeyIdentifier(id(own)?))?, extension(&authority)?])
}

fn naming(who: &Who, profile: Profile) -> Result<[Extension; 2]> {
    Ok([extension((false, &who.alternative()?))?, extension((PROFILE, false, &profile.to_string()))?])
}

fn extension(value: impl ToExtension<Error = x509_cert::der::Error>) -> Result<Extension> {
    value.to_extension(&Name::default(), &[]).map_err(encoding)
}

/// What is still to be signed.
struct Draft {
    subject: Name,
    issuer: Name,
    extensions: Vec<Extension>,
}

impl Draft {
    /// Signs it with `key`, for `public`, valid from and to `validity` (Unix time in milliseconds, cut to seconds).
    fn sign(self, key: &dyn SigningKey, public: &PublicKey, validity: (u64, u64)) -> Result<Certificate> {
        let date = |ms: u64| DateTime::from_unix_duration(std::time::Duration::from_secs(ms / 1000)).map_err(encoding);
        let validity = Validity::new(date(validity.0)?.into(), date(validity.1)?.into());
        let signer = Signer {
            algorithm: signature_id(key.algorithm())?,
            spki: PublicKey::signature(key.algorithm(), key.public_key())?.to_spki()?,
        };
        let mut builder = CertificateBuilder::new(self, serial()?, validity, public.to_spki()?).map_err(encoding)?;
        let tbs = builder.finalize(&signer).map_err(encoding)?;
        let signature = BitString::from_bytes(&key.sign(b"", &tbs)?).map_err(encoding)?;
        Certificate::from_parsed(builder.assemble(signature, &signer).map_err(encoding)?)
    }
}

/// Twenty bytes, of which 158 bits are random: positive, and never shorter.
fn serial() -> Result<SerialNumber> {
    let mut bytes = *Secret::<20>::random()?.expose_secret();
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    SerialNumber::new(&bytes).map_err(encoding)
}

impl BuilderProfile for Draft {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _spk: SubjectPublicKeyInfoRef<'_>,
        _issuer_spk: SubjectPublicKeyInfoRef<'_>,
        _tbs: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        Ok(self.extensions.clone())
    }
}

/// The issuer's public half, in the form that the builder asks for.
struct Signer {
    algorithm: AlgorithmIdentifier,
    spki: SubjectPublicKeyInfo,
}

#[derive(Clone)]
struct Verifier(SubjectPublicKeyInfo);

impl Keypair for Signer {
    type VerifyingKey = Verifier;

    fn verifying_key(&self) -> Verifier {
        Verifier(self.spki.clone())
    }
}

impl DynSignatureAlgorithmIdentifier for Signer {
    fn signature_algorithm_identifier(&self) -> x509_cert::spki::Result<AlgorithmIdentifier> {
        Ok(self.algorithm.clone())
    }
}

impl EncodePublicKey for Verifier {
    fn to_public_key_der(&self) -> x509_cert::spki::Result<Document> {
        Ok(Document::try_from(self.0.to_der()?)?)
    }
}
