//! ML-KEM and X-Wing from the RustCrypto crates.

use ml_kem::kem::{Decapsulate, FromSeed as _, KeyExport as _, TryKeyInit as _};
#[expect(deprecated, reason = "see `expand_kem_seed`")]
use ml_kem::{ExpandedKeyEncoding as _, MlKem768, MlKem1024, ml_kem_768, ml_kem_1024};
use x_wing::{DecapsulationKeyRejectNonContrib, Decapsulator as _, KeyInit as _, TryDecapsulate as _};
use zeroize::Zeroize as _;

use crate::crypto::{Kem, KemKey, SHARED_SECRET_LEN, check_kem_seed, malformed};
use crate::error::{Error, Result};
use crate::secret::{Secret, SecretBytes};

const X25519_LEN: usize = 32;

pub(super) fn key(kem: Kem, seed: &SecretBytes) -> Result<Box<dyn KemKey>> {
    check_kem_seed(kem, seed)?;
    let bad_seed = |_| malformed("seed");
    Ok(match kem {
        Kem::MlKem768 => {
            let (key, public) = MlKem768::from_seed(seed.expose_secret().try_into().map_err(bad_seed)?);
            Box::new(MlKemKey { public_key: public.to_bytes().to_vec(), key })
        }
        Kem::MlKem1024 => {
            let (key, public) = MlKem1024::from_seed(seed.expose_secret().try_into().map_err(bad_seed)?);
            Box::new(MlKemKey { public_key: public.to_bytes().to_vec(), key })
        }
        Kem::XWing => {
            let key = DecapsulationKeyRejectNonContrib::new_from_slice(seed.expose_secret());
            let key = key.map_err(|_| malformed("seed"))?;
            Box::new(XWingKey { public_key: key.encapsulation_key().to_bytes().to_vec(), key })
        }
    })
}

pub(super) fn encapsulate(kem: Kem, public_key: &[u8]) -> Result<(Vec<u8>, Secret<SHARED_SECRET_LEN>)> {
    // The randomness is drawn here: the crates' drawing forms panic when the operating system gives none.
    let m = Secret::<32>::random()?;
    let m = m.expose_secret().into();
    let bad_key = |_| malformed("encapsulation key");
    match kem {
        Kem::MlKem768 => {
            let key = ml_kem_768::EncapsulationKey::new_from_slice(public_key).map_err(bad_key)?;
            let (ciphertext, shared) = key.encapsulate_deterministic(m);
            Ok((ciphertext.to_vec(), take_shared(shared)?))
        }
        Kem::MlKem1024 => {
            let key = ml_kem_1024::EncapsulationKey::new_from_slice(public_key).map_err(bad_key)?;
            let (ciphertext, shared) = key.encapsulate_deterministic(m);
            Ok((ciphertext.to_vec(), take_shared(shared)?))
        }
        Kem::XWing => {
            let key = x_wing::EncapsulationKey::new_from_slice(public_key).map_err(bad_key)?;
            if !contributes(public_key)? {
                return Err(malformed("encapsulation key"));
            }
            let eseed = Secret::<64>::random()?;
            let (ciphertext, shared) = key.encapsulate_deterministic(eseed.expose_secret().into());
            Ok((ciphertext.to_vec(), take_shared(shared)?))
        }
    }
}

/// Whether the X25519 half of an X-Wing key is of large order.
///
/// The crate checks that when decapsulating but not when encapsulating, and the order is the same whichever side the
/// point comes from: so the point goes to a throwaway key, as if it were a ciphertext's.
fn contributes(public_key: &[u8]) -> Result<bool> {
    let point = public_key.last_chunk::<X25519_LEN>().ok_or_else(|| malformed("encapsulation key"))?;
    let mut ciphertext = vec![0; Kem::XWing.ciphertext_len()];
    let ml_kem_len = ciphertext.len() - X25519_LEN;
    ciphertext.split_at_mut(ml_kem_len).1.copy_from_slice(point);
    let throwaway = DecapsulationKeyRejectNonContrib::new(Secret::<32>::random()?.expose_secret().into());
    Ok(decapsulate_x_wing(&throwaway, &ciphertext).is_ok())
}

/// An ML-KEM key pair of the `ml-kem` crate, expanded.
struct MlKemKey<D> {
    public_key: Vec<u8>,
    key: D,
}

impl<D: Decapsulate + Send + Sync> KemKey for MlKemKey<D> {
    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret<SHARED_SECRET_LEN>> {
        take_shared(self.key.decapsulate_slice(ciphertext).map_err(|_| malformed("ciphertext"))?)
    }
}

/// An X-Wing key pair of the `x-wing` crate, which expands it again for each decapsulation.
struct XWingKey {
    public_key: Vec<u8>,
    key: DecapsulationKeyRejectNonContrib,
}

impl KemKey for XWingKey {
    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret<SHARED_SECRET_LEN>> {
        decapsulate_x_wing(&self.key, ciphertext)
    }
}

fn decapsulate_x_wing(key: &DecapsulationKeyRejectNonContrib, ciphertext: &[u8]) -> Result<Secret<SHARED_SECRET_LEN>> {
    let ciphertext = x_wing::Ciphertext::try_from(ciphertext).map_err(|_| malformed("ciphertext"))?;
    take_shared(key.try_decapsulate(&ciphertext).map_err(|_| malformed("ciphertext"))?)
}

/// The FIPS 203 expanded decapsulation key of `d ‖ z`, for implementations that cannot take a seed.
#[expect(deprecated, reason = "the expanded form is only ever made in memory, from the seed that is stored")]
pub(in crate::crypto) fn expand_seed(kem: Kem, seed: &SecretBytes) -> Result<SecretBytes> {
    fn take(mut expanded: impl AsMut<[u8]>) -> SecretBytes {
        let secret = SecretBytes::new(expanded.as_mut().to_vec());
        expanded.as_mut().zeroize();
        secret
    }
    let seed = seed.expose_secret().try_into().map_err(|_| malformed("seed"))?;
    match kem {
        Kem::MlKem768 => Ok(take(MlKem768::from_seed(seed).0.to_expanded_bytes())),
        Kem::MlKem1024 => Ok(take(MlKem1024::from_seed(seed).0.to_expanded_bytes())),
        Kem::XWing => Err(Error::internal("X-Wing has no expanded key")),
    }
}

/// Moves a shared secret to the heap and erases what it leaves behind.
fn take_shared(mut shared: impl AsMut<[u8]>) -> Result<Secret<SHARED_SECRET_LEN>> {
    let secret = Secret::copy_from(shared.as_mut());
    shared.as_mut().zeroize();
    secret
}
