//! `seal`: a record of 2 KiB, against the bare AEAD call of the same crate with as much associated data.

use std::hint::black_box;
use std::time::Duration;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit as _};
use aes_gcm_siv::Aes256GcmSiv;
use aws_lc_rs::aead::{AES_256_GCM, AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};

use super::BenchArgs;
use super::report::{Case, Report, take_turns, timed};
use crate::crypto::aws_lc::AwsLc;
use crate::crypto::rustcrypto::RustCrypto;
use crate::crypto::{Aead, NONCE_LEN, Provider, SuiteId, TAG_LEN};
use crate::error::{Error, Result};
use crate::id::{Epoch, TenantId};
use crate::record::{Field, Place, SealingKey, StoreKind};
use crate::secret::Secret;

const RECORD_BYTES: usize = 2048;
const TENANT: &str = "bench";
/// Ten components with their lengths: version, suite, epoch, tenant, store, scope, record, version, field, digest.
const AAD_BYTES: usize = 10 * 4 + 1 + 2 + 4 + TENANT.len() + 1 + 16 + 16 + 8 + 1 + 32;
const KEY: [u8; 32] = [7; 32];
const NONCE: [u8; NONCE_LEN] = [9; NONCE_LEN];

/// An AEAD as its crate gives it.
enum Bare {
    AwsLc(LessSafeKey),
    GcmSiv(Box<Aes256GcmSiv>),
    Gcm(Box<Aes256Gcm>),
}

pub(super) async fn run(args: &BenchArgs, report: &mut Report<'_>) -> Result<()> {
    for n in args.sizes(&[5_000]) {
        for provider in [&AwsLc as &dyn Provider, &RustCrypto] {
            for suite in [SuiteId::Aes256GcmSivSha3_512, SuiteId::Aes256GcmSha3_512] {
                measure(args, report, n, provider, suite).await?;
            }
        }
    }
    Ok(())
}

async fn measure(
    args: &BenchArgs,
    report: &mut Report<'_>,
    n: usize,
    provider: &dyn Provider,
    suite: SuiteId,
) -> Result<()> {
    let bare = Bare::new(provider, suite.aead())?;
    let key = SealingKey::new(provider, suite, Epoch::FIRST, &Secret::from_bytes(KEY))?;
    let tenant: TenantId = TENANT.parse()?;
    let (aad, plain) = ([5; AAD_BYTES], [3; RECORD_BYTES]);
    let digest = [1; 32];
    let place = Place {
        tenant: &tenant,
        store: StoreKind::Vectors,
        scope: &[2; 16],
        record: &[4; 16],
        version: 1,
        field: Field::Payload,
        embedding: Some(&digest),
    };
    let (bare_sealed, sealed) = (bare.seal(&aad, &plain)?, key.seal(&place, &plain)?);
    let seals = take_turns(
        args.rounds(),
        async |_| timed(n, || bare.seal(&aad, black_box(&plain))),
        async |_| timed(n, || key.seal(&place, black_box(&plain))),
    );
    let seals = seals.await?.percentile(50, Duration::from_micros(1));
    let opens = take_turns(
        args.rounds(),
        async |_| timed(n, || bare.open(&aad, black_box(&bare_sealed))),
        async |_| timed(n, || key.open(&place, black_box(&sealed))),
    );
    let opens = opens.await?.percentile(50, Duration::from_micros(1));
    let aead = match suite.aead() {
        Aead::Aes256GcmSiv => "gcm-siv",
        Aead::Aes256Gcm => "gcm",
    };
    for (what, bar, times) in [("seal", Some(1.25), seals), ("open", None, opens)] {
        let case = format!("{what} {} {aead}", provider.name());
        report.add(Case { bench: "seal", case, unit: "µs", n, bar }, times)?;
    }
    Ok(())
}

impl Bare {
    fn new(provider: &dyn Provider, aead: Aead) -> Result<Self> {
        let aws_lc = provider.name() == AwsLc.name();
        let key = |algorithm| UnboundKey::new(algorithm, &KEY).map(LessSafeKey::new).map_err(failed);
        Ok(match aead {
            Aead::Aes256GcmSiv if aws_lc => Self::AwsLc(key(&AES_256_GCM_SIV)?),
            Aead::Aes256Gcm if aws_lc => Self::AwsLc(key(&AES_256_GCM)?),
            Aead::Aes256GcmSiv => Self::GcmSiv(Box::new(Aes256GcmSiv::new(&KEY.into()))),
            Aead::Aes256Gcm => Self::Gcm(Box::new(Aes256Gcm::new(&KEY.into()))),
        })
    }

    /// Ciphertext and tag in a buffer of their own.
    fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; plain.len() + TAG_LEN];
        let (ciphertext, tag) = out.split_at_mut(plain.len());
        let sealed = match self {
            Self::AwsLc(key) => {
                let nonce = Nonce::assume_unique_for_key(NONCE);
                let sealed = key.seal_out_of_place_scatter(nonce, Aad::from(aad), plain, ciphertext, &[], tag);
                return sealed.map(|()| out).map_err(failed);
            }
            Self::GcmSiv(key) => InOutBuf::new(plain, ciphertext)
                .map_err(|_| aes_gcm::Error)
                .and_then(|buffer| key.encrypt_inout_detached(&NONCE.into(), aad, buffer)),
            Self::Gcm(key) => InOutBuf::new(plain, ciphertext)
                .map_err(|_| aes_gcm::Error)
                .and_then(|buffer| key.encrypt_inout_detached(&NONCE.into(), aad, buffer)),
        };
        tag.copy_from_slice(&sealed.map_err(failed)?);
        Ok(out)
    }

    /// The plaintext in a buffer of its own.
    fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or_else(|| failed("short"))?;
        let mut plain = vec![0; ciphertext.len()];
        match self {
            Self::AwsLc(key) => {
                let nonce = Nonce::assume_unique_for_key(NONCE);
                key.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, &mut plain).map_err(failed)?;
            }
            Self::GcmSiv(key) => InOutBuf::new(ciphertext, &mut plain)
                .map_err(|_| aes_gcm::Error)
                .and_then(|buffer| key.decrypt_inout_detached(&NONCE.into(), aad, buffer, tag.into()))
                .map_err(failed)?,
            Self::Gcm(key) => InOutBuf::new(ciphertext, &mut plain)
                .map_err(|_| aes_gcm::Error)
                .and_then(|buffer| key.decrypt_inout_detached(&NONCE.into(), aad, buffer, tag.into()))
                .map_err(failed)?,
        }
        Ok(plain)
    }
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::internal("the floor failed").with_source(e.to_string())
}
