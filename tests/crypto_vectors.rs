//! Guards against a provider that computes something else than the standards say, or accepts what they refuse: every
//! Wycheproof vector of our algorithms, through both providers, with the number of vectors pinned so that none is
//! skipped in silence. Where Wycheproof has none: NIST's, the drafts' own, and other implementations' answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use strongroom::crypto::Provider;
use strongroom::crypto::aws_lc::AwsLc;
use strongroom::crypto::rustcrypto::RustCrypto;

#[path = "crypto_vectors/aead.rs"]
mod aead;
#[path = "crypto_vectors/composite.rs"]
mod composite;
#[path = "crypto_vectors/ecdsa.rs"]
mod ecdsa;
#[path = "crypto_vectors/kdf.rs"]
mod kdf;
#[path = "crypto_vectors/kem.rs"]
mod kem;
#[path = "crypto_vectors/signature.rs"]
mod signature;
#[path = "crypto_vectors/slh_dsa.rs"]
mod slh_dsa;
#[path = "crypto_vectors/x_wing.rs"]
mod x_wing;

/// Both implementations: each runs every vector.
const PROVIDERS: [&dyn Provider; 2] = [&RustCrypto, &AwsLc];

/// What was done with the vectors of one set, and how often.
struct Tally {
    set: &'static str,
    counts: BTreeMap<String, usize>,
}

impl Tally {
    fn new(set: &'static str) -> Self {
        Self { set, counts: BTreeMap::new() }
    }

    /// Counts one vector, under who ran it and what had to come out.
    fn count(&mut self, who: &str, what: &str) {
        *self.counts.entry(format!("{who}: {what}")).or_default() += 1;
    }

    /// Prints the table and compares it, row by row, with what the set is known to hold.
    fn assert_is(&self, expected: &[(&str, usize)]) {
        println!("{}", self.set);
        self.counts.iter().for_each(|(row, count)| println!("{count:>6}  {row}"));
        let expected: BTreeMap<String, usize> = expected.iter().map(|(row, count)| (row.to_string(), *count)).collect();
        assert_eq!(self.counts, expected, "{}", self.set);
    }
}

/// Bytes from hexadecimal digits.
fn hex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
