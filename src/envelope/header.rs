//! The header of an envelope: everything that is said in clear, and bound twice, by the AEAD and by the signature.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::crypto::{Kem, NONCE_LEN, Signature, SuiteId};
use crate::id::{AgentId, SessionId, TenantId};
use crate::keys::{Profile, signer_algorithm};

/// The version of the layout.
pub const ENVELOPE_VERSION: u64 = 1;

/// What an envelope holds. Kinds cannot be exchanged: the kind is part of what is signed and of the AEAD's associated
/// data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A message from one agent to another.
    Message = 1,
    /// The arguments of a tool call.
    ToolArguments = 2,
    /// The result of a tool call.
    ToolResult = 3,
    /// A model's context.
    Context = 4,
    /// Handoff records and tokens for them.
    Handoff = 5,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Kind; 5] = [Kind::Message, Kind::ToolArguments, Kind::ToolResult, Kind::Context, Kind::Handoff];

    /// The number in the header.
    pub fn as_u8(self) -> u8 {
        self as u8
    }

    /// The name in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Message => "message",
            Kind::ToolArguments => "tool-arguments",
            Kind::ToolResult => "tool-result",
            Kind::Context => "context",
            Kind::Handoff => "handoff",
        }
    }

    pub(super) fn of(number: u64) -> Option<Self> {
        Kind::ALL.into_iter().find(|kind| u64::from(kind.as_u8()) == number)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The header: what it says, which nobody has verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) sender: TenantId,
    pub(super) agent: AgentId,
    /// SHA-256 of the certificate that the signature is to be verified with.
    pub(super) thumbprint: [u8; 32],
    pub(super) recipient: TenantId,
    pub(super) session: SessionId,
    pub(super) algorithms: Algorithms,
    pub(super) kem_ciphertext: Vec<u8>,
    pub(super) issued_at_ms: u64,
    pub(super) expires_at_ms: u64,
    pub(super) sequence: u64,
    pub(super) nonce: [u8; NONCE_LEN],
    /// Set by the application; empty when it was not.
    pub(super) correlation: Vec<u8>,
    /// DER: the sender's tenant's certificate and the signer's; empty where the receiver has them already.
    pub(super) chain: Vec<Vec<u8>>,
}

/// What an envelope is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Algorithms {
    pub(super) kem: Kem,
    pub(super) suite: SuiteId,
    pub(super) signature: Signature,
}

impl Algorithms {
    /// Those of a profile.
    pub(super) fn of(profile: Profile) -> Self {
        Self { kem: profile.kem(), suite: profile.suite(), signature: signer_algorithm(profile) }
    }
}

const KEMS: [(Kem, u64); 3] = [(Kem::MlKem768, 1), (Kem::MlKem1024, 2), (Kem::XWing, 3)];
/// As COSE has them (RFC 9964).
const SIGNATURES: [(Signature, i64); 2] = [(Signature::MlDsa65, -49), (Signature::MlDsa87, -50)];

/// The number of a KEM in the header.
pub(super) fn kem_number(kem: Kem) -> u64 {
    KEMS.iter().find(|(k, _)| *k == kem).map_or(0, |(_, number)| *number)
}

pub(super) fn kem_of(number: u64) -> Option<Kem> {
    KEMS.iter().find(|(_, n)| *n == number).map(|(kem, _)| *kem)
}

/// The number of a signature scheme in the header; 0, which no decoder takes, for one that signs no envelopes.
pub(super) fn signature_number(scheme: Signature) -> i64 {
    SIGNATURES.iter().find(|(s, _)| *s == scheme).map_or(0, |(_, number)| *number)
}

pub(super) fn signature_of(number: i64) -> Option<Signature> {
    SIGNATURES.iter().find(|(_, n)| *n == number).map(|(scheme, _)| *scheme)
}
