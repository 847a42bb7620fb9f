//! X-Wing (draft-connolly-cfrg-xwing-kem) from AWS-LC's ML-KEM-768 and X25519: the combination only.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::kem::ML_KEM_768;
use sha3::{Digest as _, Sha3_256};
use shake::{ExtendableOutput as _, Shake256, Update as _, XofReader as _};
use zeroize::Zeroizing;

use super::kem::{self, MlKemKey};
use crate::crypto::{Kem, KemKey, SHARED_SECRET_LEN, malformed};
use crate::error::{Error, Result};
use crate::secret::{Secret, SecretBytes};

/// The draft's label: last in the combiner.
const LABEL: &[u8; 6] = br"\.//^\";
const X25519_LEN: usize = 32;
const ML_KEM_SEED_LEN: usize = 64;

/// An X-Wing key pair, expanded (section 5.2 of the draft).
pub(super) struct XWingKey {
    /// `pk_M ‖ pk_X`.
    public_key: Vec<u8>,
    ml_kem: MlKemKey,
    x25519: PrivateKey,
    x25519_public: [u8; X25519_LEN],
}

impl XWingKey {
    pub(super) fn new(seed: &SecretBytes) -> Result<Self> {
        let mut expanded = Zeroizing::new([0; ML_KEM_SEED_LEN + X25519_LEN]);
        Shake256::default().chain(seed.expose_secret()).finalize_xof().read(&mut *expanded);
        let (ml_kem_seed, scalar) = expanded.split_at(ML_KEM_SEED_LEN);
        let ml_kem = MlKemKey::new(Kem::MlKem768, &ML_KEM_768, &SecretBytes::new(ml_kem_seed.to_vec()))?;
        let (x25519, x25519_public) = x25519_key(scalar)?;
        Ok(Self { public_key: [ml_kem.public_key(), &x25519_public].concat(), ml_kem, x25519, x25519_public })
    }
}

impl KemKey for XWingKey {
    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret<SHARED_SECRET_LEN>> {
        if ciphertext.len() != Kem::XWing.ciphertext_len() {
            return Err(malformed("ciphertext"));
        }
        let (ct_m, ct_x) = ciphertext.split_at(Kem::MlKem768.ciphertext_len());
        let ss_m = self.ml_kem.decapsulate(ct_m)?;
        let ss_x = agree(&self.x25519, ct_x, "ciphertext")?;
        Ok(combine(&ss_m, &ss_x, ct_x, &self.x25519_public))
    }
}

/// Encapsulates to `pk_M ‖ pk_X` (section 5.4 of the draft).
pub(super) fn encapsulate(public_key: &[u8]) -> Result<(Vec<u8>, Secret<SHARED_SECRET_LEN>)> {
    if public_key.len() != Kem::XWing.public_key_len() {
        return Err(malformed("encapsulation key"));
    }
    let (pk_m, pk_x) = public_key.split_at(Kem::MlKem768.public_key_len());
    let (mut ciphertext, ss_m) = kem::encapsulate(Kem::MlKem768, pk_m)?;
    let (ephemeral, ct_x) = x25519_key(Secret::<X25519_LEN>::random()?.expose_secret())?;
    let ss_x = agree(&ephemeral, pk_x, "encapsulation key")?;
    ciphertext.extend_from_slice(&ct_x);
    Ok((ciphertext, combine(&ss_m, &ss_x, &ct_x, pk_x)))
}

fn x25519_key(scalar: &[u8]) -> Result<(PrivateKey, [u8; X25519_LEN])> {
    let no_key = || Error::internal("no X25519 key");
    let key = PrivateKey::from_private_key(&X25519, scalar).map_err(|_| no_key())?;
    let public = key.compute_public_key().map_err(|_| no_key())?;
    let public = public.as_ref().try_into().map_err(|_| no_key())?;
    Ok((key, public))
}

/// X25519 (RFC 7748, section 6.1), which AWS-LC refuses when the result is zero: `theirs`, named `what`, is then of
/// small order.
fn agree(ours: &PrivateKey, theirs: &[u8], what: &'static str) -> Result<Secret<32>> {
    agreement::agree(ours, UnparsedPublicKey::new(&X25519, theirs), malformed(what), Secret::copy_from)
}

fn combine(ss_m: &Secret<32>, ss_x: &Secret<32>, ct_x: &[u8], pk_x: &[u8]) -> Secret<SHARED_SECRET_LEN> {
    let hash = Sha3_256::new().chain_update(ss_m.expose_secret()).chain_update(ss_x.expose_secret());
    Secret::from_bytes(hash.chain_update(ct_x).chain_update(pk_x).chain_update(LABEL).finalize().into())
}
