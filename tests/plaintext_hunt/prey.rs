//! What is hunted: byte strings in every form they may take, each under a name.

use std::collections::BTreeMap;
use std::path::Path;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use half::f16;

use crate::common::cli::walk;

/// Numbers of a vector that are looked for together: chance does not make these.
const WINDOW: usize = 8;

#[derive(Default)]
pub struct Prey {
    patterns: Vec<Vec<u8>>,
    names: Vec<String>,
}

/// How often each was found.
pub type Found = BTreeMap<String, usize>;

impl Prey {
    /// A text: as it is, in UTF-16, hexadecimal and base64.
    pub fn text(&mut self, name: &str, text: &str) {
        assert!(text.len() >= 12, "`{text}` may be there by chance");
        self.bytes(name, text.as_bytes());
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        self.add(name, "UTF-16", wide);
    }

    /// A key or another secret: as it is, in hexadecimal and base64.
    pub fn bytes(&mut self, name: &str, bytes: &[u8]) {
        self.add(name, "raw", bytes.to_vec());
        let hex = crate::common::hex(bytes);
        self.add(name, "hex", hex.to_uppercase().into_bytes());
        self.add(name, "hex", hex.into_bytes());
        self.base64(name, bytes);
    }

    /// A vector: as it is and scaled to length 1, in single and half precision, and as the codes of the resident index.
    pub fn vector(&mut self, name: &str, vector: &[f32]) {
        let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let unit: Vec<f32> = vector.iter().map(|x| (f64::from(*x) / length) as f32).collect();
        let largest = vector.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let codes: Vec<u8> = vector.iter().map(|x| (x * (127.0 / largest)).round_ties_even() as i8 as u8).collect();
        for at in [0, vector.len() / 2, vector.len() - WINDOW] {
            for (scaled, values) in [("raw", vector), ("unit", &unit[..])] {
                let values = &values[at..at + WINDOW];
                let single: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                self.base64(&format!("{name} {scaled} f32"), &single);
                self.add(name, &format!("{scaled} f32"), single);
                let half = values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
                self.add(name, &format!("{scaled} f16"), half);
            }
            self.add(name, "codes", codes[at..at + WINDOW].to_vec());
        }
    }

    fn base64(&mut self, name: &str, bytes: &[u8]) {
        for before in 0..3 {
            // The characters that depend on nothing but `bytes`, for each way they may lie among others.
            let text = BASE64.encode([&[0; 2][..before], bytes].concat());
            let whole = (before * 8).div_ceil(6)..(before + bytes.len()) * 8 / 6;
            self.add(name, "base64", text.as_bytes()[whole].to_vec());
        }
    }

    fn add(&mut self, name: &str, form: &str, pattern: Vec<u8>) {
        self.names.push(format!("{name} ({form})"));
        self.patterns.push(pattern);
    }

    pub fn hunter(&self) -> Hunter {
        Hunter { machine: AhoCorasick::new(&self.patterns).unwrap(), names: self.names.clone() }
    }
}

pub struct Hunter {
    machine: AhoCorasick,
    names: Vec<String>,
}

impl Hunter {
    pub fn hunt(&self, bytes: &[u8]) -> Found {
        let mut found = Found::new();
        for hit in self.machine.find_overlapping_iter(bytes) {
            *found.entry(self.names[hit.pattern()].clone()).or_default() += 1;
        }
        found
    }

    /// Where each was found.
    pub fn places(&self, bytes: &[u8]) -> Vec<(usize, String)> {
        let hits = self.machine.find_overlapping_iter(bytes);
        hits.map(|hit| (hit.start(), self.names[hit.pattern()].clone())).collect()
    }
}

#[test]
fn every_form_is_found() {
    let mut prey = Prey::default();
    prey.text("word", "a-secret-word");
    prey.bytes("key", &[0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4]);
    let hunter = prey.hunter();
    for form in [
        "xa-secret-wordx".as_bytes().to_vec(),
        "a-secret-word".encode_utf16().flat_map(u16::to_le_bytes).collect(),
        b"DEADBEEF01020304".to_vec(),
        b"deadbeef01020304".to_vec(),
    ] {
        assert_eq!(hunter.hunt(&form).len(), 1);
    }
    for before in 0..4 {
        let text = BASE64.encode([&b"xyzw"[..before], b"a-secret-word", b"after"].concat());
        assert_eq!(hunter.hunt(text.as_bytes()).len(), 1, "{text}");
    }
    assert!(hunter.hunt(b"nothing of the kind").is_empty());
}

/// What is found below `dir`, in names and in contents.
pub fn hunt_tree(hunter: &Hunter, dir: &Path) -> Found {
    let mut found = Found::new();
    for path in walk(dir) {
        let mut here = hunter.hunt(path.strip_prefix(dir).unwrap().as_os_str().as_encoded_bytes());
        if path.is_file() {
            here.extend(hunter.hunt(&std::fs::read(&path).unwrap()));
        }
        for (what, times) in here {
            *found.entry(format!("{what} in {}", path.display())).or_default() += times;
        }
    }
    found
}
