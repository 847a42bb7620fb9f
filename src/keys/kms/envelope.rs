//! The key of an envelope, from the secret that a session key shares: `schema/keys.md` has the derivation.

use crate::crypto::Provider;
use crate::error::Result;
use crate::id::{SessionId, TenantId};
use crate::keys::label::{self, SESSION_ENVELOPE};
use crate::keys::profile::Agreement;
use crate::secret::Secret;

/// What an envelope's key depends on besides the shared secret. Sender and receiver know all of it.
pub(super) struct Envelope<'a> {
    /// What the two profiles agreed on.
    pub(super) agreement: &'a Agreement,
    /// The receiver's tenant.
    pub(super) recipient: &'a TenantId,
    /// The receiver's session.
    pub(super) session: SessionId,
    /// The session key's public half.
    pub(super) public_key: &'a [u8],
    /// The ciphertext of the KEM.
    pub(super) ciphertext: &'a [u8],
}

impl Envelope<'_> {
    /// HKDF (RFC 5869) in the suite's hash, to 32 bytes.
    pub(super) fn key(&self, provider: &dyn Provider, shared: &Secret<32>) -> Result<Secret<32>> {
        let suite = self.agreement.profile().suite();
        // HMAC under a public label is a hash of the suite's own kind: CNSA 2.0 has no SHA-3.
        let exchanged = [self.ciphertext, self.public_key].concat();
        let digest = provider.hkdf_extract(suite.kdf(), SESSION_ENVELOPE.as_bytes(), &exchanged);
        let prk = provider.hkdf_extract(suite.kdf(), self.recipient.as_str().as_bytes(), shared.expose_secret());
        let info = label::parts(&[
            SESSION_ENVELOPE.as_bytes(),
            &suite.as_u16().to_be_bytes(),
            self.session.as_bytes(),
            digest.expose_secret(),
            self.agreement.transcript(),
        ]);
        Secret::try_fill(|key| provider.hkdf_expand(suite.kdf(), &prk, &info, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{aws_lc::AwsLc, rustcrypto::RustCrypto};
    use crate::keys::Profile;
    use crate::keys::profile::negotiate;

    /// Guards against a change of the derivation: the vectors are from `schema/vectors/envelope.py`, which uses
    /// Python's own `hmac` and `hashlib`.
    #[test]
    fn keys_are_those_of_an_independent_implementation() {
        for line in include_str!("../../../schema/vectors/envelope.txt").lines() {
            let (profile, expected) = line.split_once(' ').unwrap();
            let profile: Profile = profile.parse().unwrap();
            let agreement = negotiate(&profile.into(), &profile.into()).unwrap();
            let tenant = "acme".parse().unwrap();
            let envelope = Envelope {
                agreement: &agreement,
                recipient: &tenant,
                session: SessionId::from([3; 16]),
                public_key: &vec![4; profile.kem().public_key_len()],
                ciphertext: &vec![5; profile.kem().ciphertext_len()],
            };
            for provider in [&AwsLc as &dyn Provider, &RustCrypto] {
                let key = envelope.key(provider, &Secret::from_bytes([7; 32])).unwrap();
                let hex: String = key.expose_secret().iter().map(|b| format!("{b:02x}")).collect();
                assert_eq!(hex, expected, "{profile} with {}", provider.name());
            }
        }
    }

    /// Guards against a part of the context that does not count.
    #[test]
    fn every_part_counts() {
        let profile = Profile::Pure;
        let agreement = negotiate(&profile.into(), &profile.into()).unwrap();
        let other = negotiate(&Profile::Fips.into(), &Profile::Fips.into()).unwrap();
        let (acme, initech) = ("acme".parse().unwrap(), "initech".parse().unwrap());
        let of = |agreement, recipient, session: u8, public_key: &[u8], ciphertext: &[u8], shared: u8| {
            let session = SessionId::from([session; 16]);
            let envelope = Envelope { agreement, recipient, session, public_key, ciphertext };
            *envelope.key(&AwsLc, &Secret::from_bytes([shared; 32])).unwrap().expose_secret()
        };
        let keys = [
            of(&agreement, &acme, 1, b"pk", b"ct", 1),
            of(&other, &acme, 1, b"pk", b"ct", 1),
            of(&agreement, &initech, 1, b"pk", b"ct", 1),
            of(&agreement, &acme, 2, b"pk", b"ct", 1),
            of(&agreement, &acme, 1, b"pK", b"ct", 1),
            of(&agreement, &acme, 1, b"pk", b"cT", 1),
            of(&agreement, &acme, 1, b"pk", b"ct", 2),
        ];
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
    }
}
