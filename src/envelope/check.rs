//! The checks that an envelope passes before anything of it is decapsulated or opened.

use super::codec::Envelope;
use super::header::{Algorithms, Header};
use super::refusal::Refusal;
use crate::crypto::Provider;
use crate::keys::{Profile, VerifiedSigner};
use crate::limits;

/// An envelope whose sender, signature and time are right. Only [`Authentic::check`] makes one, and nothing is opened
/// without it.
pub(super) struct Authentic(Envelope);

impl Authentic {
    /// Checks `envelope` against `signer`, who is believed, and the profile of the session that it came in.
    pub(super) fn check(
        provider: &dyn Provider,
        envelope: Envelope,
        signer: &VerifiedSigner,
        profile: Profile,
        now_ms: u64,
    ) -> Result<Self, Refusal> {
        let header = &envelope.header;
        if signer.thumbprint() != &header.thumbprint {
            return Err(Refusal::Signer);
        }
        let algorithms = Algorithms::of(profile);
        if header.algorithms != algorithms || signer.algorithm() != algorithms.signature || signer.profile() != profile
        {
            return Err(Refusal::Profile);
        }
        signer.verify(provider, &envelope.signed(), envelope.signature()).map_err(|_| Refusal::Signature)?;
        if *signer.tenant() != header.sender || *signer.agent() != header.agent {
            return Err(Refusal::Sender);
        }
        check_time(header, now_ms)?;
        Ok(Self(envelope))
    }

    /// What the header says.
    pub(super) fn header(&self) -> &Header {
        &self.0.header
    }

    /// What the header says, taken over.
    pub(super) fn into_header(self) -> Header {
        self.0.header
    }

    /// The associated data of the ciphertext.
    pub(super) fn aad(&self) -> &[u8] {
        self.0.aad()
    }

    /// Ciphertext and tag.
    pub(super) fn ciphertext(&self) -> &[u8] {
        self.0.ciphertext()
    }
}

/// An envelope lives at most [`limits::ENVELOPE_LIFE_MS`], and not before its issue: but for a sender's fast clock.
fn check_time(header: &Header, now_ms: u64) -> Result<(), Refusal> {
    let life_ms = header.expires_at_ms.checked_sub(header.issued_at_ms).ok_or(Refusal::Time)?;
    let issued = header.issued_at_ms <= now_ms.saturating_add(limits::ENVELOPE_SKEW_MS);
    let alive = now_ms < header.expires_at_ms;
    if issued && alive && life_ms <= limits::ENVELOPE_LIFE_MS { Ok(()) } else { Err(Refusal::Time) }
}
