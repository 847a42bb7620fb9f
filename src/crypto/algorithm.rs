//! Names and lengths of the public-key algorithms: KEMs and signatures.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A key encapsulation mechanism. Every shared secret is 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kem {
    /// ML-KEM-768 (FIPS 203, section 8), security category 3.
    MlKem768,
    /// ML-KEM-1024 (FIPS 203, section 8), security category 5.
    MlKem1024,
    /// X25519 with ML-KEM-768 (draft-connolly-cfrg-xwing-kem): safe while either of the two is.
    XWing,
}

impl Kem {
    /// Every KEM.
    pub const ALL: [Kem; 3] = [Kem::MlKem768, Kem::MlKem1024, Kem::XWing];

    /// Length of an encapsulation key in bytes.
    pub fn public_key_len(self) -> usize {
        match self {
            Kem::MlKem768 => 1184,
            Kem::MlKem1024 => 1568,
            Kem::XWing => 1216,
        }
    }

    /// Length of a ciphertext in bytes.
    pub fn ciphertext_len(self) -> usize {
        match self {
            Kem::MlKem768 => 1088,
            Kem::MlKem1024 => 1568,
            Kem::XWing => 1120,
        }
    }

    /// Length in bytes of the seed that determines a key pair: `d ‖ z` (FIPS 203, section 7.1), or X-Wing's private key.
    pub fn seed_len(self) -> usize {
        match self {
            Kem::MlKem768 | Kem::MlKem1024 => 64,
            Kem::XWing => 32,
        }
    }

    /// The name in configuration and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Kem::MlKem768 => "ml-kem-768",
            Kem::MlKem1024 => "ml-kem-1024",
            Kem::XWing => "x-wing",
        }
    }
}

/// A signature scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signature {
    /// ML-DSA-65 (FIPS 204, section 4), security category 3.
    MlDsa65,
    /// ML-DSA-87 (FIPS 204, section 4), security category 5.
    MlDsa87,
    /// SLH-DSA-SHA2-128s (FIPS 205, section 11), security category 1.
    SlhDsaSha2_128s,
    /// SLH-DSA-SHA2-192s (FIPS 205, section 11), security category 3.
    SlhDsaSha2_192s,
    /// ECDSA (FIPS 186-5) on P-384 with SHA-384: classical, only ever a half of a composite.
    EcdsaP384,
    /// ML-DSA-65 and ECDSA P-384 together: [`composite`](super::composite). Safe while either of the two is.
    MlDsa65EcdsaP384,
}

/// A DER `Ecdsa-Sig-Value` (RFC 3279, section 2.2.3) of two positive numbers of at most 384 bits.
const ECDSA_P384_DER: RangeInclusive<usize> = 8..=104;

impl Signature {
    /// Every scheme.
    pub const ALL: [Signature; 6] = [
        Signature::MlDsa65,
        Signature::MlDsa87,
        Signature::SlhDsaSha2_128s,
        Signature::SlhDsaSha2_192s,
        Signature::EcdsaP384,
        Signature::MlDsa65EcdsaP384,
    ];

    /// Length of a verification key in bytes. ECDSA: the uncompressed point (SEC 1, section 2.3.3).
    pub fn public_key_len(self) -> usize {
        match self {
            Signature::MlDsa65 => 1952,
            Signature::MlDsa87 => 2592,
            Signature::SlhDsaSha2_128s => 32,
            Signature::SlhDsaSha2_192s => 48,
            Signature::EcdsaP384 => 97,
            Signature::MlDsa65EcdsaP384 => Signature::MlDsa65.public_key_len() + Signature::EcdsaP384.public_key_len(),
        }
    }

    /// Lengths in bytes that a signature can have: more than one only where there is DER in it.
    pub fn signature_len(self) -> RangeInclusive<usize> {
        match self {
            Signature::MlDsa65 => 3309..=3309,
            Signature::MlDsa87 => 4627..=4627,
            Signature::SlhDsaSha2_128s => 7856..=7856,
            Signature::SlhDsaSha2_192s => 16224..=16224,
            Signature::EcdsaP384 => ECDSA_P384_DER,
            Signature::MlDsa65EcdsaP384 => 3309 + ECDSA_P384_DER.start()..=3309 + ECDSA_P384_DER.end(),
        }
    }

    /// Length in bytes of the seed that determines a key pair: `ξ` (FIPS 204, section 5.1), `SK.seed ‖ SK.prf ‖ PK.seed`
    /// (FIPS 205, section 9.1), the scalar (big-endian), or ML-DSA's before ECDSA's.
    pub fn seed_len(self) -> usize {
        match self {
            Signature::MlDsa65 | Signature::MlDsa87 => 32,
            Signature::SlhDsaSha2_128s => 3 * 16,
            Signature::SlhDsaSha2_192s => 3 * 24,
            Signature::EcdsaP384 => 48,
            Signature::MlDsa65EcdsaP384 => Signature::MlDsa65.seed_len() + Signature::EcdsaP384.seed_len(),
        }
    }

    /// Whether signatures can be bound to a context.
    pub fn takes_context(self) -> bool {
        self != Signature::EcdsaP384
    }

    /// The name in configuration and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Signature::MlDsa65 => "ml-dsa-65",
            Signature::MlDsa87 => "ml-dsa-87",
            Signature::SlhDsaSha2_128s => "slh-dsa-sha2-128s",
            Signature::SlhDsaSha2_192s => "slh-dsa-sha2-192s",
            Signature::EcdsaP384 => "ecdsa-p384",
            Signature::MlDsa65EcdsaP384 => "ml-dsa-65+ecdsa-p384",
        }
    }
}

impl fmt::Display for Kem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kem {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Kem::ALL.into_iter().find(|kem| kem.as_str() == name);
        found.ok_or_else(|| Error::invalid(format!("there is no KEM `{name}`")))
    }
}

impl FromStr for Signature {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Signature::ALL.into_iter().find(|signature| signature.as_str() == name);
        found.ok_or_else(|| Error::invalid(format!("there is no signature scheme `{name}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row is found by its name, which only that row begins with.
    fn row(name: &str) -> &'static str {
        let schema = include_str!("../../schema/keys.md");
        schema.lines().find(|line| line.starts_with(&format!("| `{name}` "))).unwrap()
    }

    #[test]
    fn the_schema_has_every_length() {
        for kem in Kem::ALL {
            let lengths = format!(") | {} | {} | {} |", kem.seed_len(), kem.public_key_len(), kem.ciphertext_len());
            assert!(row(kem.as_str()).ends_with(&lengths), "{kem}");
            assert_eq!(kem.as_str().parse::<Kem>().unwrap(), kem);
        }
        for scheme in Signature::ALL {
            let (least, most) = scheme.signature_len().into_inner();
            let signature = if least == most { least.to_string() } else { format!("{least} to {most}") };
            let lengths = format!(") | {} | {} | {signature} |", scheme.seed_len(), scheme.public_key_len());
            assert!(row(scheme.as_str()).ends_with(&lengths), "{scheme}");
            assert_eq!(scheme.as_str().parse::<Signature>().unwrap(), scheme);
        }
        assert!("rsa".parse::<Kem>().is_err() && "rsa".parse::<Signature>().is_err());
    }
}
