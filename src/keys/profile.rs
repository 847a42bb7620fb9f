//! Profiles: which algorithms a tenant uses, and how two peers agree on one. [`crate::manual::profiles`] has the table.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha384};

use crate::crypto::{Aead, Kem, Signature, SuiteId};
use crate::error::{Error, ErrorKind, Result};

/// A set of algorithms that is chosen as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Profile {
    /// Post-quantum and classical algorithms together: safe while either holds.
    #[default]
    Hybrid = 1,
    /// Post-quantum algorithms only.
    Pure = 2,
    /// The Commercial National Security Algorithm Suite 2.0.
    Cnsa2 = 3,
    /// Algorithms that stand in a FIPS or a NIST SP 800.
    Fips = 4,
}

impl Profile {
    /// Every profile, in the order of its number.
    pub const ALL: [Profile; 4] = [Profile::Hybrid, Profile::Pure, Profile::Cnsa2, Profile::Fips];

    /// The number in an encoded offer.
    pub fn as_u8(self) -> u8 {
        self as u8
    }

    /// The name in configuration and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Profile::Hybrid => "hybrid",
            Profile::Pure => "pure",
            Profile::Cnsa2 => "cnsa2",
            Profile::Fips => "fips",
        }
    }

    /// The KEM of session keys.
    pub fn kem(self) -> Kem {
        match self {
            Profile::Hybrid => Kem::XWing,
            Profile::Pure | Profile::Fips => Kem::MlKem768,
            Profile::Cnsa2 => Kem::MlKem1024,
        }
    }

    /// What a tenant and its agents sign with.
    pub fn signature(self) -> Signature {
        match self {
            Profile::Hybrid => Signature::MlDsa65EcdsaP384,
            Profile::Pure | Profile::Fips => Signature::MlDsa65,
            Profile::Cnsa2 => Signature::MlDsa87,
        }
    }

    /// What root certificates are signed with.
    pub fn authority_signature(self) -> Signature {
        match self {
            Profile::Hybrid | Profile::Pure | Profile::Fips => Signature::SlhDsaSha2_192s,
            Profile::Cnsa2 => Signature::MlDsa87,
        }
    }

    /// What records are sealed with, unless an epoch is made with another of [`suites`](Self::suites).
    pub fn suite(self) -> SuiteId {
        match self {
            Profile::Hybrid | Profile::Pure => SuiteId::Aes256GcmSivSha3_512,
            Profile::Cnsa2 => SuiteId::Aes256GcmSha384,
            Profile::Fips => SuiteId::Aes256GcmSha3_512,
        }
    }

    /// What records may be sealed with, [`suite`](Self::suite) first.
    pub fn suites(self) -> &'static [SuiteId] {
        match self {
            Profile::Hybrid | Profile::Pure => &[SuiteId::Aes256GcmSivSha3_512, SuiteId::Aes256GcmSha3_512],
            Profile::Cnsa2 => &[SuiteId::Aes256GcmSha384],
            Profile::Fips => &[SuiteId::Aes256GcmSha3_512],
        }
    }

    /// `suite`, if records may be sealed with it. [`InvalidInput`](ErrorKind::InvalidInput) otherwise.
    pub fn allow(self, suite: SuiteId) -> Result<SuiteId> {
        if self.suites().contains(&suite) { Ok(suite) } else { Err(self.refuse(suite.as_str())) }
    }

    /// The suite of this profile called `name`: a whole name, or `gcm-siv` or `gcm` for its AEAD.
    pub fn suite_called(self, name: &str) -> Result<SuiteId> {
        let found = self.suites().iter().find(|suite| {
            let aead = match suite.aead() {
                Aead::Aes256GcmSiv => "gcm-siv",
                Aead::Aes256Gcm => "gcm",
            };
            name == aead || name == suite.as_str()
        });
        found.copied().ok_or_else(|| self.refuse(name))
    }

    fn refuse(self, suite: &str) -> Error {
        let allowed: Vec<&str> = self.suites().iter().map(|suite| suite.as_str()).collect();
        Error::invalid(format!("profile {self} does not seal with `{}`", crate::id::shown(suite)))
            .with_remedy(format!("use {}", allowed.join(" or ")))
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Profile::ALL.into_iter().find(|profile| profile.as_str() == name);
        found.ok_or_else(|| {
            let all = listed(&Profile::ALL);
            Error::invalid(format!("there is no profile `{}`, only {all}", crate::id::shown(name)))
                .with_remedy(format!("use one of {all}"))
        })
    }
}

/// The version of an encoded offer, its first byte.
const OFFER_VERSION: u8 = 1;
/// What a transcript begins with.
const TRANSCRIPT_LABEL: &[u8] = b"strongroom profile negotiation v1";

/// The profiles that a peer accepts, the one it likes best first.
///
/// ```text
/// 0    version = 1
/// 1    number of profiles, 1 to 4
/// 2..  one byte a profile: 1 hybrid, 2 pure, 3 cnsa2, 4 fips
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer(Vec<Profile>);

impl Offer {
    /// An offer of `profiles`: at least one, and none twice.
    pub fn new(profiles: Vec<Profile>) -> Result<Self> {
        if profiles.is_empty() {
            return Err(Error::invalid("an offer names no profile")
                .with_remedy(format!("name at least one of {}", listed(&Profile::ALL))));
        }
        let twice = profiles.iter().enumerate().find(|(at, profile)| profiles.iter().take(*at).any(|p| p == *profile));
        if let Some((_, profile)) = twice {
            return Err(Error::invalid(format!("an offer names `{profile}` twice")));
        }
        Ok(Self(profiles))
    }

    /// The profiles, in order of preference.
    pub fn profiles(&self) -> &[Profile] {
        &self.0
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        // At most four profiles, since none comes twice.
        let head = [OFFER_VERSION, self.0.len() as u8];
        head.into_iter().chain(self.0.iter().map(|profile| profile.as_u8())).collect()
    }

    /// The offer in `bytes`, which have to be exactly those that [`encode`](Self::encode) gives.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let malformed = || Error::invalid("malformed offer of profiles");
        let [OFFER_VERSION, count, numbers @ ..] = bytes else {
            return Err(malformed());
        };
        if usize::from(*count) != numbers.len() {
            return Err(malformed());
        }
        let known = |number: &u8| Profile::ALL.into_iter().find(|profile| profile.as_u8() == *number);
        let profiles = numbers.iter().map(known).collect::<Option<Vec<_>>>().ok_or_else(malformed)?;
        Self::new(profiles).map_err(|_| malformed())
    }
}

impl From<Profile> for Offer {
    fn from(only: Profile) -> Self {
        Self(vec![only])
    }
}

/// What two peers agreed on. Only [`negotiate`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    profile: Profile,
    transcript: [u8; 48],
}

impl Agreement {
    /// The profile that both use.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// SHA-384 over a label, both offers and the choice, each with its length (u32, big-endian) before it.
    ///
    /// It belongs into the `info` of every key that the two derive: who changes an offer on its way, to have a weaker
    /// profile chosen, then only gets keys that differ.
    pub fn transcript(&self) -> &[u8; 48] {
        &self.transcript
    }
}

/// Chooses the profile that the initiator likes best among those that the responder accepts too. Both sides call it with
/// the offers in the same order and get the same.
///
/// Without a common profile it is [`Denied`](ErrorKind::Denied): nothing else is ever fallen back on.
pub fn negotiate(initiator: &Offer, responder: &Offer) -> Result<Agreement> {
    let common = initiator.0.iter().copied().find(|profile| responder.0.contains(profile));
    let profile = common.ok_or_else(|| {
        let (theirs, ours) = (listed(&initiator.0), listed(&responder.0));
        Error::new(
            ErrorKind::Denied,
            format!("no common profile: the initiator offers {theirs}, the responder accepts {ours}"),
        )
        .with_remedy(format!("let the initiator offer one of {ours}, or the responder accept one of {theirs}"))
    })?;
    let mut hash = Sha384::new();
    for part in [TRANSCRIPT_LABEL, &initiator.encode(), &responder.encode(), &[profile.as_u8()]] {
        // A label and at most six bytes: never near 4 GiB.
        hash.update((part.len() as u32).to_be_bytes());
        hash.update(part);
    }
    Ok(Agreement { profile, transcript: hash.finalize().into() })
}

fn listed(profiles: &[Profile]) -> String {
    profiles.iter().map(|profile| format!("`{profile}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
