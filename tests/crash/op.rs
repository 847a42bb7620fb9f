//! What the child does, one line per operation, and the content that follows from a record's id and its last write.

use std::fmt;
use std::str::FromStr;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, Value, json};
use strongroom::{Chunk, CollectionSpec, Memory, Metric, Mode, Namespace};

/// The number of an operation, and so of the content that it wrote.
pub type Stamp = u64;

/// One operation, with everything that it touches.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    Open,
    Upsert(String, Vec<u64>),
    Delete(String, Vec<u64>),
    Put(String, bool),
    Update(String, bool),
    Forget(String, bool),
    /// Each key with `p` to put, `e` to put with an embedding or `d` to delete.
    Batch(Vec<(String, char)>),
    Flush(String),
    Optimize(String),
    Search(String),
    Close,
    /// Whether the epoch before is destroyed at once, and whether the root key is replaced too.
    Rotate(bool, bool),
    Create(String),
    Drop(String),
}

/// What a kill is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Ingest,
    Memory,
    Flush,
    Optimize,
    Open,
    Close,
    Rotate,
    Catalog,
    Search,
}

impl Op {
    pub fn kind(&self) -> Kind {
        match self {
            Op::Upsert(..) | Op::Delete(..) => Kind::Ingest,
            Op::Put(..) | Op::Update(..) | Op::Forget(..) | Op::Batch(..) => Kind::Memory,
            Op::Flush(_) => Kind::Flush,
            Op::Optimize(_) => Kind::Optimize,
            Op::Open => Kind::Open,
            Op::Close => Kind::Close,
            Op::Rotate(..) => Kind::Rotate,
            Op::Create(_) | Op::Drop(_) => Kind::Catalog,
            Op::Search(_) => Kind::Search,
        }
    }

    /// The memories that it touches.
    pub fn memories(&self) -> Vec<&str> {
        match self {
            Op::Put(key, _) | Op::Update(key, _) | Op::Forget(key, _) => vec![key],
            Op::Batch(ops) => ops.iter().map(|(key, _)| key.as_str()).collect(),
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = |ids: &[u64]| ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        match self {
            Op::Open => f.write_str("open"),
            Op::Upsert(collection, of) => write!(f, "upsert {collection} {}", ids(of)),
            Op::Delete(collection, of) => write!(f, "delete {collection} {}", ids(of)),
            Op::Put(key, embedded) => write!(f, "put {key} {embedded}"),
            Op::Update(key, embedded) => write!(f, "update {key} {embedded}"),
            Op::Forget(key, purge) => write!(f, "forget {key} {purge}"),
            Op::Batch(ops) => {
                write!(f, "batch {}", ops.iter().map(|(key, op)| format!("{key}:{op}")).collect::<Vec<_>>().join(","))
            }
            Op::Flush(collection) => write!(f, "flush {collection}"),
            Op::Optimize(collection) => write!(f, "optimize {collection}"),
            Op::Search(collection) => write!(f, "search {collection}"),
            Op::Close => f.write_str("close"),
            Op::Rotate(compromised, root) => write!(f, "rotate {compromised} {root}"),
            Op::Create(collection) => write!(f, "create {collection}"),
            Op::Drop(collection) => write!(f, "drop {collection}"),
        }
    }
}

impl FromStr for Op {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let words: Vec<&str> = line.split(' ').collect();
        let ids = |list: &str| list.split(',').map(|id| id.parse().map_err(|_| ())).collect::<Result<_, _>>();
        let yes = |word: &str| word.parse::<bool>().map_err(|_| ());
        Ok(match *words.as_slice() {
            ["open"] => Op::Open,
            ["upsert", collection, of] => Op::Upsert(collection.into(), ids(of)?),
            ["delete", collection, of] => Op::Delete(collection.into(), ids(of)?),
            ["put", key, embedded] => Op::Put(key.into(), yes(embedded)?),
            ["update", key, embedded] => Op::Update(key.into(), yes(embedded)?),
            ["forget", key, purge] => Op::Forget(key.into(), yes(purge)?),
            ["batch", list] => Op::Batch(
                list.split(',')
                    .map(|one| {
                        let (key, op) = one.split_once(':').ok_or(())?;
                        Ok((key.to_owned(), op.parse().map_err(|_| ())?))
                    })
                    .collect::<Result<_, ()>>()?,
            ),
            ["flush", collection] => Op::Flush(collection.into()),
            ["optimize", collection] => Op::Optimize(collection.into()),
            ["search", collection] => Op::Search(collection.into()),
            ["close"] => Op::Close,
            ["rotate", compromised, root] => Op::Rotate(yes(compromised)?, yes(root)?),
            ["create", collection] => Op::Create(collection.into()),
            ["drop", collection] => Op::Drop(collection.into()),
            _ => return Err(()),
        })
    }
}

/// Dimensions of the vectors of `collection`. `large` passes the engine's indexing threshold with 3000 points.
pub fn dimensions(collection: &str) -> usize {
    match collection {
        "large" => 1024,
        "sealed" => 96,
        "veiled" => 48,
        "plain" => 64,
        "memories" => 24,
        _ => 16,
    }
}

pub fn spec(collection: &str) -> CollectionSpec {
    let mode = match collection {
        "veiled" => Mode::Veiled,
        "sealed" | "bulk" => Mode::Sealed,
        other if other.ends_with('0') => Mode::Sealed,
        _ => Mode::Plain,
    };
    CollectionSpec::new(dimensions(collection), Metric::Cosine).mode(mode)
}

fn content(what: &str, id: u64, stamp: Stamp) -> StdRng {
    let name = what.bytes().fold(17_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    StdRng::seed_from_u64(name ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stamp.rotate_left(32))
}

/// The vector that `stamp` wrote to record `id`.
pub fn vector(collection: &str, id: u64, stamp: Stamp) -> Vec<f32> {
    let mut rng = content(collection, id, stamp);
    (0..dimensions(collection)).map(|_| rng.random_range(-1.0_f32..1.0)).collect()
}

fn filler(what: &str, id: u64, stamp: Stamp) -> String {
    let mut rng = content(what, id, !stamp);
    let most = if rng.random_bool(0.05) { 20_000 } else { 400 };
    let length = rng.random_range(0..most);
    (0..length).map(|_| char::from(rng.random_range(b' '..b'~'))).collect()
}

/// The chunk that `stamp` wrote under `id`.
pub fn chunk(collection: &str, id: u64, stamp: Stamp) -> Chunk {
    let text = format!("{collection} {id} as of {stamp}: {}", filler(collection, id, stamp));
    let metadata =
        Map::from_iter([("stamp".into(), json!(stamp)), ("of".into(), json!({ "record": id, "half": 0.5 }))]);
    Chunk::new(id, text, vector(collection, id, stamp)).metadata(metadata)
}

fn number(key: &str) -> u64 {
    key.bytes().fold(0, |n, byte| n.wrapping_mul(257).wrapping_add(byte.into()))
}

/// Where the memory called `lane.key` is.
pub fn place(memory: &str) -> (Namespace, &str) {
    let (lane, key) = memory.split_once('.').unwrap();
    (Namespace::new(["agents", lane]).unwrap(), key)
}

pub fn memory_value(memory: &str, stamp: Stamp) -> Value {
    json!({ "stamp": stamp, "text": filler("memories", number(memory), stamp) })
}

pub fn memory_vector(memory: &str, stamp: Stamp) -> Vec<f32> {
    vector("memories", number(memory), stamp)
}

/// The memory that `stamp` wrote.
pub fn memory(memory: &str, embedded: bool, stamp: Stamp) -> Memory {
    let (namespace, key) = place(memory);
    let written = Memory::new(namespace, key, &memory_value(memory, stamp)).unwrap();
    if embedded { written.embedding(memory_vector(memory, stamp)) } else { written }
}
