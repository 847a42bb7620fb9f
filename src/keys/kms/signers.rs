//! Keys that others hold and the service vouches for: certified once, believed while their session is open.

use super::caller::{Caller, Permit};
use super::credential::{Leaf, refused};
use super::local::LocalKms;
use super::sessions::NewSession;
use super::{SignerCredential, SignerRequest};
use crate::audit::{Outcome, Reason, What};
use crate::error::{Error, ErrorKind, Result};
use crate::id::SessionId;
use crate::keys::certificate::{self, Certificate, SignerSubject, SignerUse};
use crate::keys::{Believed, Fingerprint, VerifiedSigner, signer_proof};

impl LocalKms {
    pub(super) fn certify_signer(
        &self,
        caller: &Caller,
        permit: Permit,
        request: &SignerRequest,
    ) -> Result<SignerCredential> {
        let lifetime_ms = request.lifetime_ms.min(self.options.policy.session_max_ms);
        self.options.policy.check_session(lifetime_ms)?;
        let provider = self.keystore.provider();
        let proof = signer_proof(permit.tenant(), &request.agent, request.purpose);
        provider.verify(request.algorithm, &request.public_key, b"", &proof, &request.proof).map_err(|e| {
            Error::invalid("the caller has not shown that it holds this key")
                .with_remedy("sign the proof of possession with it, as `schema/keys.md` says")
                .with_source(e)
        })?;
        let certified = self.certify(&permit, request, lifetime_ms)?;
        let what = What::SignerCertified {
            session: certified.session.to_string(),
            purpose: request.purpose,
            fingerprints: vec![Fingerprint::of(provider, &request.public_key)],
        };
        if let Err(e) = self.record(caller, permit.operation(), permit.tenant(), what, Outcome::Done) {
            // What is not recorded is not revealed, and nobody knows of the session to end it.
            drop(self.sessions.revoke(permit.tenant(), certified.session, self.clock.now_ms()));
            return Err(e);
        }
        Ok(certified)
    }

    pub(super) fn believe_signer(
        &self,
        caller: &Caller,
        permit: &Permit,
        purpose: SignerUse,
        chain: &[Vec<u8>],
    ) -> Result<VerifiedSigner> {
        self.find_signer(permit, purpose, chain).map_err(|e| {
            if !matches!(e.kind(), ErrorKind::Denied | ErrorKind::InvalidInput | ErrorKind::NotFound) {
                return e;
            }
            let recorded = self.refused(caller, permit.operation(), permit.tenant(), Reason::Credential);
            recorded.err().unwrap_or_else(|| refused("it is not one of a signer that is believed here").with_source(e))
        })
    }

    fn certify(&self, permit: &Permit, request: &SignerRequest, lifetime_ms: u64) -> Result<SignerCredential> {
        let tenant = permit.tenant();
        let ready = self.ready(permit)?;
        let now_ms = self.clock.now_ms();
        self.sessions.check_room(tenant, now_ms)?;
        let (session, expires_at_ms) = (SessionId::random()?, now_ms.saturating_add(lifetime_ms));
        let subject = SignerSubject {
            agent: &request.agent,
            session,
            purpose: request.purpose,
            algorithm: request.algorithm,
            public_key: &request.public_key,
        };
        let public = ready.public(&self.keystore)?;
        let [_, own] = &public.certificates;
        let credential = certificate::issue_signer(
            self.keystore.provider(),
            &*ready.signer(&self.keystore)?,
            &Certificate::from_der(own)?,
            &subject,
            expires_at_ms,
            now_ms,
        )?;
        let (agent, profile) = (request.agent.as_str(), ready.record.profile);
        self.insert(permit, NewSession { id: session, tenant, agent, profile, expires_at_ms, key: None }, now_ms)?;
        Ok(SignerCredential { session, chain: vec![own.clone(), credential.as_der().to_vec()], expires_at_ms })
    }

    fn find_signer(&self, permit: &Permit, purpose: SignerUse, chain: &[Vec<u8>]) -> Result<VerifiedSigner> {
        let now_ms = self.clock.now_ms();
        let believed = self.credentials.believe(&self.keystore, &self.tenants, chain, now_ms)?;
        let Leaf::Signer(signer) = &believed.leaf else {
            return Err(refused("it does not end in a signer's credential"));
        };
        if signer.purpose() != purpose {
            return Err(refused("the signer is there for something else"));
        }
        // Envelopes alone go from tenant to tenant.
        if purpose != SignerUse::Envelopes && believed.tenant != *permit.tenant() {
            return Err(refused("the signer is another tenant's"));
        }
        // After the lookup: a chain that is remembered may be of a session that has been revoked since.
        self.sessions.find(&believed.tenant, believed.session, now_ms)?;
        let thumbprint = self.keystore.provider().sha256(&[chain.last().map_or(&[][..], Vec::as_slice)]);
        let (algorithm, public_key) = signer.key();
        Ok(VerifiedSigner::new(Believed {
            tenant: believed.tenant.clone(),
            profile: believed.profile,
            agent: signer.agent().clone(),
            session: believed.session,
            purpose,
            algorithm,
            public_key: public_key.to_vec(),
            thumbprint,
            not_after_ms: believed.not_after_ms,
        }))
    }
}
