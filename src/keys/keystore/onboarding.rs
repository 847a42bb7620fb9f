//! Making a tenant: root key, signing key, first epoch and certificate, all or nothing.
//!
//! What is going to be made is written down first, so that a crash leaves nothing in a token that cannot be found; the
//! tenant exists from the moment its record says so, in one atomic replacement. Doing it again finishes what was
//! interrupted.

use super::custody::{KeyAlgorithm, KeyPurpose, KeyRole};
use super::stored::{Encapsulated, Stored, StoredEpoch, StoredKey, TenantState};
use super::{Keystore, shredded};
use crate::crypto::{Kem, Signature, SigningKey, SuiteId};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, TenantId};
use crate::keys::certificate::{self, Certificate, TenantSubject};
use crate::keys::{EpochState, Fingerprint, Profile, TenantRecord};

impl Keystore {
    /// Makes a tenant: its ML-KEM-1024 root key, the signing key of its profile, its first epoch, and the certificate
    /// that binds its id to both public keys.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) when there is one with this id, or was.
    pub fn onboard(&self, tenant: &TenantId, profile: Profile, now_ms: u64) -> Result<TenantRecord> {
        let _changing = self.changing.lock();
        if let Some(before) = self.records.read(tenant)? {
            match before.state {
                TenantState::Onboarding => self.clear(&before)?,
                TenantState::Live => {
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        format!("tenant `{}` exists already", tenant.as_str()),
                    ));
                }
                TenantState::Shredding | TenantState::Shredded => {
                    return Err(Error::new(ErrorKind::Conflict, shredded(tenant).to_string()).with_remedy(
                        "choose another id: this one stays taken, so that nobody mistakes one for the other",
                    ));
                }
            }
        }
        let mut stored = Stored::new(tenant, profile, now_ms);
        let signing = match profile.signature() {
            Signature::MlDsa65EcdsaP384 => {
                vec![(KeyPurpose::Signing, Signature::MlDsa65), (KeyPurpose::SigningClassical, Signature::EcdsaP384)]
            }
            single => vec![(KeyPurpose::Signing, single)],
        };
        let mut plan = vec![(KeyPurpose::Root, KeyAlgorithm::MlKem1024)];
        plan.extend(signing.into_iter().map(|(purpose, signature)| (purpose, KeyAlgorithm::Signature(signature))));
        self.make_keys(&mut stored, &plan, now_ms)?;
        self.add_first_epoch(&mut stored, now_ms)?;
        stored.certificate = self.tenant_certificate(&stored, tenant, now_ms)?.as_der().to_vec();
        stored.state = TenantState::Live;
        self.records.write(&stored)?;
        stored.record(self.provider)
    }

    /// The store's own entry: a root key and an epoch, for the key that blinds tenants' names. With it the authority that
    /// most tenants need, so that the first one is made as fast as the others.
    pub(super) fn create_system(&self, now_ms: u64) -> Result<()> {
        let _changing = self.changing.lock();
        let mut stored = Stored::new(&TenantId::system(), Profile::default(), now_ms);
        self.make_keys(&mut stored, &[(KeyPurpose::Root, KeyAlgorithm::MlKem1024)], now_ms)?;
        self.add_first_epoch(&mut stored, now_ms)?;
        stored.state = TenantState::Live;
        self.authority(Profile::default().authority_signature(), now_ms)?;
        self.records.write(&stored)
    }

    /// The certificates of this platform's authorities, DER: those that some tenant has needed so far.
    pub fn authorities(&self) -> Result<Vec<Vec<u8>>> {
        let used = Profile::ALL.map(Profile::authority_signature);
        let mut certificates = Vec::new();
        for algorithm in Signature::ALL.into_iter().filter(|algorithm| used.contains(algorithm)) {
            certificates.extend(self.find_authority(algorithm)?);
        }
        Ok(certificates)
    }

    /// The certificate of the authority that signs with `algorithm`, DER.
    pub(super) fn authority_certificate(&self, algorithm: Signature) -> Result<Vec<u8>> {
        self.find_authority(algorithm)?.ok_or_else(|| Error::integrity("the platform's authority"))
    }

    fn find_authority(&self, algorithm: Signature) -> Result<Option<Vec<u8>>> {
        let stored = self.records.read(&TenantId::authority(algorithm.as_str()))?;
        Ok(stored.filter(|stored| stored.state == TenantState::Live).map(|stored| stored.certificate.clone()))
    }

    /// A certificate that binds the tenant's id to the root key and the signing key that are active.
    pub(super) fn tenant_certificate(&self, stored: &Stored, tenant: &TenantId, now_ms: u64) -> Result<Certificate> {
        let (key, issuer) = self.authority(stored.profile.authority_signature(), now_ms)?;
        let subject = TenantSubject {
            tenant,
            profile: stored.profile,
            algorithm: stored.profile.signature(),
            signing_key: &stored.signing_public_key()?,
            root_key: &stored.key(KeyPurpose::Root)?.public_key,
        };
        certificate::issue_tenant(self.provider, &*key, &issuer, &subject, now_ms)
    }

    /// The authority that signs with `algorithm`, made when the first tenant needs it.
    fn authority(&self, algorithm: Signature, now_ms: u64) -> Result<(Box<dyn SigningKey>, Certificate)> {
        let id = TenantId::authority(algorithm.as_str());
        let before = self.records.read(&id)?;
        if let Some(stored) = before.as_ref().filter(|stored| stored.state == TenantState::Live) {
            let (role, key) = stored.held(KeyPurpose::Authority)?;
            return Ok((self.custody.signer(&role, &key)?, Certificate::from_der(&stored.certificate)?));
        }
        if let Some(interrupted) = before {
            self.clear(&interrupted)?;
        }
        let mut stored = Stored::new(&id, Profile::default(), now_ms);
        self.make_keys(&mut stored, &[(KeyPurpose::Authority, KeyAlgorithm::Signature(algorithm))], now_ms)?;
        let (role, key) = stored.held(KeyPurpose::Authority)?;
        let signer = self.custody.signer(&role, &key)?;
        let certificate = certificate::issue_authority(self.provider, &*signer, now_ms)?;
        stored.certificate = certificate.as_der().to_vec();
        stored.state = TenantState::Live;
        self.records.write(&stored)?;
        Ok((signer, certificate))
    }

    /// Writes down which keys are going to be made, then makes them.
    fn make_keys(&self, stored: &mut Stored, plan: &[(KeyPurpose, KeyAlgorithm)], now_ms: u64) -> Result<()> {
        let tenant = stored.id()?;
        let mut roles = Vec::new();
        for (purpose, algorithm) in plan {
            let role = KeyRole::random(tenant.clone(), *purpose)?;
            stored.keys.push(StoredKey::planned(&role, *algorithm, now_ms));
            roles.push((role, *algorithm));
        }
        self.records.write(stored)?;
        let made = roles.iter().map(|(role, algorithm)| {
            let held = self.custody.generate(role, *algorithm)?;
            Ok(StoredKey::made(role, &held, now_ms))
        });
        stored.keys = made.collect::<Result<_>>()?;
        Ok(())
    }

    /// Destroys what an interrupted onboarding may have made.
    fn clear(&self, interrupted: &Stored) -> Result<()> {
        let tenant = interrupted.id()?;
        for key in &interrupted.keys {
            let (role, held) = key.in_custody(&tenant)?;
            self.custody.destroy(&role, &held)?;
        }
        Ok(())
    }

    fn add_first_epoch(&self, stored: &mut Stored, now_ms: u64) -> Result<()> {
        let mut first = self.new_epoch(stored, Epoch::FIRST, stored.profile.suite(), now_ms)?;
        first.become_(EpochState::Active, now_ms)?;
        stored.epochs.push(first);
        Ok(())
    }

    pub(super) fn new_epoch(&self, stored: &Stored, epoch: Epoch, suite: SuiteId, now_ms: u64) -> Result<StoredEpoch> {
        Ok(StoredEpoch::new(epoch, suite, self.encapsulated(stored)?, now_ms))
    }

    /// A fresh secret, encapsulated to the tenant's active root key and forgotten: only that key gives it back.
    pub(super) fn encapsulated(&self, stored: &Stored) -> Result<Encapsulated> {
        let root = stored.key(KeyPurpose::Root)?;
        let (ciphertext, _) = self.provider.kem_encapsulate(Kem::MlKem1024, &root.public_key)?;
        Ok(Encapsulated { root: root.serial, fingerprint: Fingerprint::of(self.provider, &ciphertext), ciphertext })
    }
}
