//! The plaintext of a point's vector field: the record id and the exact embeddings, and where these are veiled the seeds of
//! their noise. Its SHA-256 is the embedding digest.
//!
//! There are two formats. The first has dense vectors only and is still written where nothing else is there; the second
//! begins with a byte that no first one has. `schema/record.md` has both.

use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;
use zeroize::Zeroizing;

use crate::crypto;
use crate::error::{Error, Result};
use crate::id::RecordId;
use crate::secret::SecretBytes;

use super::{SparseVector, veil};

/// What the second format begins with: the first begins with the length of an id, which is never 0.
const SECOND: [u8; 2] = [0, 2];

const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const SEED: u8 = 2;

/// The embeddings of a record by their position in the collection's description; sparse ones count for themselves.
#[derive(Default)]
pub(super) struct Embeddings {
    pub(super) dense: Vec<(u8, Zeroizing<Vec<f32>>)>,
    pub(super) sparse: Vec<(u8, SparseVector)>,
    /// The seed of each dense one's noise, in their order; none where nothing is veiled.
    pub(super) seeds: Zeroizing<Vec<veil::Seed>>,
}

impl Embeddings {
    /// The dense vector at `position`, if the record has it.
    pub(super) fn at(&self, position: u8) -> Option<&[f32]> {
        self.dense.iter().find(|(p, _)| *p == position).map(|(_, vector)| vector.as_slice())
    }

    /// The sparse vector at `position`, if the record has it.
    pub(super) fn sparse_at(&self, position: u8) -> Option<&SparseVector> {
        self.sparse.iter().find(|(p, _)| *p == position).map(|(_, vector)| vector)
    }
}

#[derive(Serialize, Deserialize)]
struct First<'a> {
    #[serde(borrow, with = "serde_bytes")]
    id: &'a [u8],
    #[serde(borrow)]
    vectors: Vec<(u8, &'a Bytes)>,
}

#[derive(Serialize, Deserialize)]
struct Second<'a> {
    #[serde(borrow, with = "serde_bytes")]
    id: &'a [u8],
    /// Kind, position and values, ascending by both.
    #[serde(borrow)]
    parts: Vec<(u8, u8, &'a Bytes)>,
}

/// The plaintext of `embeddings`, which ascend by position and have a seed for each dense one or none.
pub(super) fn encode(id: &RecordId, embeddings: &Embeddings) -> Result<SecretBytes> {
    let id = Zeroizing::new(id.to_bytes());
    let dense: Vec<_> = embeddings.dense.iter().map(|(p, vector)| (*p, floats(vector))).collect();
    let plain = if embeddings.sparse.is_empty() && embeddings.seeds.is_empty() {
        let vectors = dense.iter().map(|(p, bytes)| (*p, Bytes::new(bytes))).collect();
        postcard::to_stdvec(&First { id: &id, vectors })
    } else {
        let sparse: Vec<_> = embeddings.sparse.iter().map(|(p, vector)| (*p, pairs(vector))).collect();
        let sparse = sparse.iter().map(|(p, bytes)| (SPARSE, *p, Bytes::new(bytes)));
        let seeds = dense.iter().zip(embeddings.seeds.iter()).map(|((p, _), seed)| (SEED, *p, Bytes::new(seed)));
        let dense = dense.iter().map(|(p, bytes)| (DENSE, *p, Bytes::new(bytes)));
        let parts = dense.chain(sparse).chain(seeds).collect();
        postcard::to_extend(&Second { id: &id, parts }, SECOND.to_vec())
    };
    Ok(SecretBytes::new(plain.map_err(|e| Error::internal("encoding a vector").with_source(e))?))
}

/// The inverse of [`encode`]; what it does not write is refused.
pub(super) fn decode(plain: &SecretBytes) -> Result<(RecordId, Embeddings)> {
    let plain = plain.expose_secret();
    let Some(second) = plain.strip_prefix(&SECOND) else {
        let First { id, vectors } = whole(plain)?;
        return parse(id, vectors.into_iter().map(|(position, bytes)| (DENSE, position, bytes)));
    };
    let Second { id, parts } = whole(second)?;
    if parts.iter().all(|(kind, ..)| *kind == DENSE) {
        return Err(crypto::open_failed());
    }
    parse(id, parts.into_iter())
}

fn whole<'a, T: Deserialize<'a>>(plain: &'a [u8]) -> Result<T> {
    match postcard::take_from_bytes(plain) {
        Ok((parsed, [])) => Ok(parsed),
        _ => Err(crypto::open_failed()),
    }
}

fn parse<'a>(id: &[u8], parts: impl Iterator<Item = (u8, u8, &'a Bytes)>) -> Result<(RecordId, Embeddings)> {
    let mut embeddings = Embeddings::default();
    let mut last = None;
    for (kind, position, bytes) in parts {
        if last.is_some_and(|last| last >= (kind, position)) {
            return Err(crypto::open_failed());
        }
        last = Some((kind, position));
        match kind {
            DENSE => embeddings.dense.push((position, Zeroizing::new(to_floats(bytes)?))),
            SPARSE => embeddings.sparse.push((position, to_sparse(bytes)?)),
            // Positions ascend: it is that of the next dense vector, or of none.
            SEED if embeddings.dense.get(embeddings.seeds.len()).is_some_and(|(p, _)| *p == position) => {
                embeddings.seeds.push(bytes[..].try_into().map_err(|_| crypto::open_failed())?);
            }
            _ => return Err(crypto::open_failed()),
        }
    }
    if !embeddings.seeds.is_empty() && embeddings.seeds.len() != embeddings.dense.len() {
        return Err(crypto::open_failed());
    }
    Ok((RecordId::from_bytes(id)?, embeddings))
}

fn floats(values: &[f32]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

fn to_floats(bytes: &[u8]) -> Result<Vec<f32>> {
    let (values, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(crypto::open_failed());
    }
    Ok(values.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// All indices, then all values.
fn pairs(vector: &SparseVector) -> Zeroizing<Vec<u8>> {
    let indices = vector.indices().iter().flat_map(|index| index.to_le_bytes());
    Zeroizing::new(indices.chain(vector.values().iter().flat_map(|value| value.to_le_bytes())).collect())
}

fn to_sparse(bytes: &[u8]) -> Result<SparseVector> {
    if !bytes.len().is_multiple_of(8) {
        return Err(crypto::open_failed());
    }
    let (indices, values) = bytes.split_at(bytes.len() / 2);
    let indices: Vec<u32> = indices.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    if !indices.is_sorted() {
        return Err(crypto::open_failed());
    }
    SparseVector::new(indices, to_floats(values)?).map_err(|_| crypto::open_failed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(bytes: &[u8]) -> SecretBytes {
        SecretBytes::new(bytes.to_vec())
    }

    /// Bytes that were written before there were sparse vectors: record 7 with [1, −2] at position 0.
    const STORED: [u8; 21] = [9, 0, 0, 0, 0, 0, 0, 0, 0, 7, 1, 0, 8, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0];

    #[test]
    fn the_first_format_is_read_and_written() {
        let id = RecordId::from(7);
        let embeddings = Embeddings { dense: vec![(0, Zeroizing::new(vec![1.0, -2.0]))], ..Embeddings::default() };
        assert_eq!(encode(&id, &embeddings).unwrap().expose_secret(), STORED);
        let (read, vectors) = decode(&plain(&STORED)).unwrap();
        assert!(read == id && vectors.at(0) == Some(&[1.0, -2.0][..]) && vectors.at(1).is_none());
    }

    #[test]
    fn every_embedding_has_a_seed_or_none_has() {
        let dense = |position| (position, Zeroizing::new(vec![1.0]));
        let veiled = Embeddings {
            dense: vec![dense(1), dense(3)],
            seeds: Zeroizing::new(vec![[7; 32], [8; 32]]),
            ..Embeddings::default()
        };
        let id = RecordId::from(7).to_bytes();
        let one = 1_f32.to_le_bytes();
        let of = |seeds: &[(u8, &[u8])]| {
            let seeds = seeds.iter().map(|(position, seed)| (SEED, *position, Bytes::new(seed)));
            let dense = [1, 3].map(|position| (DENSE, position, Bytes::new(&one)));
            let parts = dense.into_iter().chain(seeds).collect();
            plain(&postcard::to_extend(&Second { id: &id, parts }, SECOND.to_vec()).unwrap())
        };
        let good = of(&[(1, &[7; 32]), (3, &[8; 32])]);
        assert!(encode(&RecordId::from(7), &veiled).unwrap().expose_secret() == good.expose_secret());
        assert!(decode(&good).unwrap().1.seeds == veiled.seeds);
        let bad: [&[(u8, &[u8])]; 5] =
            [&[(1, &[7; 31]), (3, &[8; 32])], &[(1, &[7; 32])], &[(3, &[8; 32])], &[(1, &[7; 32]), (2, &[8; 32])], &[]];
        for bad in bad {
            assert!(decode(&of(bad)).is_err());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            number: u64,
            veiled: bool,
            dense in prop::collection::btree_map(0_u8..16, prop::collection::vec(-1e3_f32..1e3, 1..5), 0..4),
            sparse in prop::collection::btree_map(
                0_u8..16, prop::collection::btree_map(any::<u32>(), -1e3_f32..1e3, 0..9), 0..4,
            ),
        ) {
            let sparse: Vec<_> = sparse
                .into_iter()
                .map(|(p, pairs)| (p, SparseVector::new(pairs.keys().copied().collect(), pairs.values().copied().collect()).unwrap()))
                .collect();
            let dense: Vec<_> = dense.into_iter().map(|(p, v)| (p, Zeroizing::new(v))).collect();
            let seeds = dense.iter().filter(|_| veiled).map(|(p, _)| [*p; 32]).collect();
            let embeddings = Embeddings { dense, sparse, seeds: Zeroizing::new(seeds) };
            let written = encode(&RecordId::from(number), &embeddings).unwrap();
            let (id, read) = decode(&written).unwrap();
            prop_assert!(id == RecordId::from(number) && read.dense == embeddings.dense && read.sparse == embeddings.sparse);
            prop_assert!(read.seeds == embeddings.seeds);
            // One way of writing it.
            prop_assert!(encode(&id, &read).unwrap().expose_secret() == written.expose_secret());
            for cut in 0..written.len() {
                prop_assert!(decode(&plain(&written.expose_secret()[..cut])).is_err());
            }
            prop_assert!(decode(&plain(&[written.expose_secret(), &[0]].concat())).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode(&plain(&bytes));
            let _ = decode(&plain(&[&SECOND[..], &bytes].concat()));
        }
    }
}
