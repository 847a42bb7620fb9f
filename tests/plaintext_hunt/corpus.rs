//! A corpus in which everything that a tenant chooses is a marker of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use strongroom::SparseVector;

use crate::common::{hex, vector};
use crate::prey::Prey;

/// Dimensions of every vector.
pub const SIZE: usize = 48;
const CHUNKS: usize = 40;

#[derive(Serialize, Deserialize)]
pub struct Corpus {
    pub passphrase: String,
    pub api_key: String,
    pub tenant: String,
    pub sealed: String,
    pub plain: String,
    pub vector_names: [String; 2],
    pub sparse_name: String,
    pub chunks: Vec<MarkedChunk>,
    pub plain_vectors: Vec<Vec<f32>>,
    pub namespace: [String; 2],
    pub memory_key: String,
    pub forgotten_key: String,
    pub memory_values: [String; 3],
    pub memory_vector: Vec<f32>,
}

#[derive(Serialize, Deserialize)]
pub struct MarkedChunk {
    pub id: String,
    pub text: String,
    pub key: String,
    pub value: String,
    pub vectors: [Vec<f32>; 2],
    pub sparse: SparseVector,
}

fn marker() -> String {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).unwrap();
    format!("m{}", hex(&bytes))
}

fn random_vector() -> Vec<f32> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).unwrap();
    vector(u64::from_le_bytes(seed), SIZE)
}

fn random_sparse() -> SparseVector {
    let mut indices = [0; 4 * SIZE];
    getrandom::fill(&mut indices).unwrap();
    let indices = indices.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    SparseVector::new(indices, random_vector()).unwrap()
}

impl Corpus {
    pub fn random() -> Self {
        let chunk = |_| MarkedChunk {
            id: marker(),
            text: marker(),
            key: marker(),
            value: marker(),
            vectors: [random_vector(), random_vector()],
            sparse: random_sparse(),
        };
        Self {
            passphrase: marker(),
            api_key: marker(),
            tenant: marker(),
            sealed: marker(),
            plain: marker(),
            vector_names: [marker(), marker()],
            sparse_name: marker(),
            chunks: (0..CHUNKS).map(chunk).collect(),
            plain_vectors: (0..CHUNKS).map(|_| random_vector()).collect(),
            namespace: [marker(), marker()],
            memory_key: marker(),
            forgotten_key: marker(),
            memory_values: [marker(), marker(), marker()],
            memory_vector: random_vector(),
        }
    }

    pub fn namespace(&self) -> String {
        self.namespace.join("/")
    }

    /// Everything but the vectors of `plain` mode, which are given away.
    pub fn prey(&self) -> Prey {
        let mut prey = Prey::default();
        prey.text("the API key", &self.api_key);
        prey.text("the passphrase", &self.passphrase);
        prey.text("the tenant", &self.tenant);
        prey.text("a collection", &self.sealed);
        prey.text("a collection", &self.plain);
        self.vector_names.iter().for_each(|name| prey.text("a vector's name", name));
        prey.text("a vector's name", &self.sparse_name);
        self.namespace.iter().for_each(|label| prey.text("a namespace", label));
        prey.text("a memory key", &self.memory_key);
        prey.text("a memory key", &self.forgotten_key);
        self.memory_values.iter().for_each(|value| prey.text("a memory value", value));
        prey.vector("a memory's vector", &self.memory_vector);
        for chunk in &self.chunks {
            prey.text("a record id", &chunk.id);
            prey.text("a text", &chunk.text);
            prey.text("a metadata key", &chunk.key);
            prey.text("a metadata value", &chunk.value);
            chunk.vectors.iter().for_each(|v| prey.vector("a vector", v));
            prey.vector("the values of a sparse vector", chunk.sparse.values());
            let indices: Vec<u8> = chunk.sparse.indices()[4..12].iter().flat_map(|i| i.to_le_bytes()).collect();
            prey.bytes("the indices of a sparse vector", &indices);
        }
        prey
    }

    /// The lines to ingest.
    pub fn lines(&self, with_vectors: bool) -> String {
        let line = |chunk: &MarkedChunk| {
            let mut line = json!({ "id": chunk.id, "text": chunk.text, "metadata": chunk.metadata() });
            if with_vectors {
                let [first, second] = &self.vector_names;
                line["vector"] = json!({ first: chunk.vectors[0], second: chunk.vectors[1] });
                line["sparse"] = json!({ &self.sparse_name: chunk.sparse });
            }
            format!("{line}\n")
        };
        self.chunks.iter().map(line).collect()
    }
}

impl MarkedChunk {
    pub fn metadata(&self) -> Map<String, Value> {
        Map::from_iter([(self.key.clone(), self.value.clone().into())])
    }
}

/// An embeddings endpoint that lives as long as the test; returns its address.
pub fn endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/embeddings", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(&stream)));
    url
}

fn answer(stream: &TcpStream) {
    let mut input = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while {
        line.clear();
        input.read_line(&mut line).unwrap_or(0)
    } > 2
    {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let texts = body["input"].as_array().unwrap().len();
    let data: Vec<Value> = (0..texts).map(|i| json!({ "index": i, "embedding": random_vector() })).collect();
    let body = json!({ "data": data }).to_string();
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut stream = stream;
    stream.write_all([head, body].concat().as_bytes()).unwrap();
}
