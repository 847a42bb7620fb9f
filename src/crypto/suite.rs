//! Symmetric algorithms, and the numbered suites that combine them.

use crate::error::{Error, ErrorKind, Result};

/// An AEAD with a 256-bit key, a 96-bit nonce and a 128-bit tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Aead {
    /// AES-256-GCM-SIV (RFC 8452): a repeated nonce reveals only that two plaintexts are equal.
    Aes256GcmSiv,
    /// AES-256-GCM (NIST SP 800-38D).
    Aes256Gcm,
}

/// HKDF (RFC 5869) over a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kdf {
    /// Over SHA3-512 (FIPS 202): 64-byte pseudorandom keys.
    HkdfSha3_512,
    /// Over SHA-384 (FIPS 180-4): 48-byte pseudorandom keys.
    HkdfSha384,
}

impl Kdf {
    /// Length of the hash in bytes.
    pub fn hash_len(self) -> usize {
        match self {
            Kdf::HkdfSha3_512 => 64,
            Kdf::HkdfSha384 => 48,
        }
    }
}

/// What a sealed record says it was sealed with: a number on disk, an AEAD and a KDF in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum SuiteId {
    /// AES-256-GCM-SIV with HKDF-SHA3-512: profiles `hybrid` and `pure`.
    Aes256GcmSivSha3_512 = 1,
    /// AES-256-GCM with HKDF-SHA3-512: profile `fips`.
    Aes256GcmSha3_512 = 2,
    /// AES-256-GCM with HKDF-SHA-384: profile `cnsa2`.
    Aes256GcmSha384 = 3,
}

impl SuiteId {
    /// Every suite, in the order of its number.
    pub const ALL: [SuiteId; 3] = [SuiteId::Aes256GcmSivSha3_512, SuiteId::Aes256GcmSha3_512, SuiteId::Aes256GcmSha384];

    /// The number stored in a record.
    pub fn as_u16(self) -> u16 {
        self as u16
    }

    /// The AEAD.
    pub fn aead(self) -> Aead {
        match self {
            SuiteId::Aes256GcmSivSha3_512 => Aead::Aes256GcmSiv,
            SuiteId::Aes256GcmSha3_512 | SuiteId::Aes256GcmSha384 => Aead::Aes256Gcm,
        }
    }

    /// The KDF.
    pub fn kdf(self) -> Kdf {
        match self {
            SuiteId::Aes256GcmSivSha3_512 | SuiteId::Aes256GcmSha3_512 => Kdf::HkdfSha3_512,
            SuiteId::Aes256GcmSha384 => Kdf::HkdfSha384,
        }
    }

    /// The name in configuration and output.
    pub fn as_str(self) -> &'static str {
        match self {
            SuiteId::Aes256GcmSivSha3_512 => "aes-256-gcm-siv+hkdf-sha3-512",
            SuiteId::Aes256GcmSha3_512 => "aes-256-gcm+hkdf-sha3-512",
            SuiteId::Aes256GcmSha384 => "aes-256-gcm+hkdf-sha-384",
        }
    }
}

impl TryFrom<u16> for SuiteId {
    type Error = Error;

    fn try_from(number: u16) -> Result<Self> {
        SuiteId::ALL
            .into_iter()
            .find(|suite| suite.as_u16() == number)
            .ok_or_else(|| Error::new(ErrorKind::Integrity, format!("unknown suite {number}")))
    }
}
