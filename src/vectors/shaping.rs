//! What an engine is given of points at a moment: by which mode, by which declared fields, and with which noise.
//!
//! The sealed fields of a point are the same in every mode. What an engine searches and filters by is derived from them, so
//! that a collection changes its mode without sealing anything anew.

use std::sync::Arc;

use rayon::prelude::*;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::crypto::{self, MacKey, Provider};
use crate::error::Result;
use crate::id::Epoch;
use crate::secret::Secret;

use super::blind::Declared;
use super::engine::Point;
use super::point::PointSealer;
use super::registry::{self, Entry};
use super::vector_plain::Embeddings;
use super::{Mode, veil};

/// How points are derived at a moment. Who has one and finds another later knows that something was changed.
#[derive(Clone)]
pub(super) struct Shaping {
    pub(super) mode: Mode,
    /// The fields that points have tokens of.
    pub(super) declared: Arc<Declared>,
    /// What gives noise to veiled vectors that have no seed of their own, since they were written in another mode.
    pub(super) noise: Option<Arc<dyn MacKey>>,
    /// How often the mode was changed since the collection was opened.
    pub(super) changes: u64,
}

impl Shaping {
    /// The same in another mode.
    pub(super) fn in_mode(&self, mode: Mode) -> Self {
        Self { mode, ..self.clone() }
    }

    /// The seed of the noise of each dense vector. `digest` is of all that is sealed with them: the same vectors have the
    /// same noise whenever they are veiled, for fresh noise would average out.
    pub(super) fn seeds(&self, vectors: &Embeddings, digest: &[u8; 32]) -> Result<Zeroizing<Vec<veil::Seed>>> {
        if vectors.seeds.len() == vectors.dense.len() {
            return Ok(vectors.seeds.clone());
        }
        match &self.noise {
            Some(key) if vectors.seeds.is_empty() => {
                let seed = |position: u8| key.tag(&[digest, &[position]]);
                Ok(Zeroizing::new(vectors.dense.iter().map(|(position, _)| seed(*position)).collect()))
            }
            _ => Err(crypto::open_failed()),
        }
    }
}

impl PointSealer {
    /// How points are derived now.
    pub(super) fn shaping(&self) -> Arc<Shaping> {
        self.shaping.read().clone()
    }

    /// Derives them in another way from now on.
    pub(super) fn reshape(&self, change: impl FnOnce(&mut Shaping)) {
        let mut shaping = self.shaping.write();
        let mut new = Shaping::clone(&shaping);
        change(&mut new);
        *shaping = Arc::new(new);
    }

    /// `points` as an engine is given them in `mode`.
    pub(super) fn in_mode(&self, mode: Mode, points: Vec<Point>) -> Result<Vec<Point>> {
        let shaping = Arc::new(self.shaping().in_mode(mode));
        points.into_par_iter().with_min_len(16).map(|point| self.shaped(&shaping, point)).collect()
    }

    fn shaped(&self, shaping: &Arc<Shaping>, point: Point) -> Result<Point> {
        if shaping.mode == Mode::Sealed {
            return Ok(Point { searchable: Vec::new(), tag: None, tokens: Vec::new(), ..point });
        }
        // What the registry says is compared when the collection changes hands.
        let epoch = Epoch::try_from(point.epoch).map_err(|_| crypto::open_failed())?;
        let digest = registry::digest(self.keyring.provider(), &point.payload);
        let entry = Entry { expires_at_ms: 0, epoch, version: point.version, digest };
        Ok(self.derive_anew(shaping, &point, &entry)?.point)
    }
}

/// The key of the noise of vectors that were not written as veiled ones. It is a collection's own and stays as long as the
/// collection does, whatever becomes of epochs; it exists in memory and in the sealed description.
pub(super) struct NoiseKey(Secret<32>);

impl NoiseKey {
    pub(super) fn random() -> Result<Self> {
        Secret::random().map(Self)
    }

    pub(super) fn key(&self, provider: &dyn Provider) -> Arc<dyn MacKey> {
        provider.mac(&self.0).into()
    }
}

impl Serialize for NoiseKey {
    /// 64 hexadecimal digits: for the description, which is sealed.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hex = Zeroizing::new(crate::audit::hex(self.0.expose_secret()));
        serializer.serialize_str(&hex)
    }
}

impl<'de> Deserialize<'de> for NoiseKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = Zeroizing::new(String::deserialize(deserializer)?);
        let digits: Option<Zeroizing<Vec<u32>>> =
            hex.chars().map(|c| c.to_digit(16)).collect::<Option<_>>().map(Zeroizing::new);
        let bad = || D::Error::custom("not 64 hexadecimal digits");
        let digits = digits.filter(|digits| digits.len() == 64).ok_or_else(bad)?;
        let mut key = Zeroizing::new([0; 32]);
        for (byte, pair) in key.iter_mut().zip(digits.as_chunks::<2>().0) {
            let [high, low] = pair;
            *byte = u8::try_from(high << 4 | low).map_err(|_| bad())?;
        }
        Ok(Self(Secret::from_bytes(*key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noise_key_is_64_digits() {
        let key = NoiseKey::random().unwrap();
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json.len(), 66);
        let read: NoiseKey = serde_json::from_str(&json).unwrap();
        assert!(read.0 == key.0);
        for bad in [&json[..65], "\"\"", "7", &json.replacen(&json[1..2], "g", 1), &format!("\"0{}", &json[1..])] {
            assert!(serde_json::from_str::<NoiseKey>(bad).is_err());
        }
    }

    #[test]
    fn the_same_vectors_have_the_same_noise_and_others_another() {
        let noise = NoiseKey::random().unwrap().key(crypto::default_provider());
        let shaping = |noise| Shaping { mode: Mode::Veiled, declared: Arc::default(), noise, changes: 0 };
        let with = shaping(Some(noise));
        let dense = vec![(0, Zeroizing::new(vec![1.0])), (3, Zeroizing::new(vec![2.0]))];
        let mut vectors = Embeddings { dense, ..Embeddings::default() };
        let seeds = with.seeds(&vectors, &[7; 32]).unwrap();
        assert!(seeds.len() == 2 && seeds[0] != seeds[1]);
        assert!(with.seeds(&vectors, &[7; 32]).unwrap() == seeds);
        assert!(with.seeds(&vectors, &[8; 32]).unwrap()[0] != seeds[0]);
        let other = shaping(Some(NoiseKey::random().unwrap().key(crypto::default_provider())));
        assert!(other.seeds(&vectors, &[7; 32]).unwrap() != seeds);
        assert!(shaping(None).seeds(&vectors, &[7; 32]).is_err());
        // What was sealed with the vectors counts.
        vectors.seeds = Zeroizing::new(vec![[1; 32], [2; 32]]);
        assert!(shaping(None).seeds(&vectors, &[7; 32]).unwrap() == vectors.seeds);
        vectors.seeds.pop();
        assert!(with.seeds(&vectors, &[7; 32]).is_err());
    }
}
