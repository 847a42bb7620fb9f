//! Guards against records that get another record's vector, batches without bounds, and bad lines that are lost.

use std::io::Cursor;

use proptest::prelude::*;

use super::super::embed::test_server::{Server, reply, success};
use super::*;
use crate::error::ErrorKind;

fn lines(text: &str) -> JsonlReader {
    JsonlReader::from_reader("in.jsonl", Cursor::new(text.as_bytes().to_vec()))
}

fn npy(rows: &[[f32; 2]]) -> VectorSource {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, 2), }}", rows.len());
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(rows.as_flattened().iter().flat_map(|x| x.to_le_bytes()));
    let length = bytes.len() as u64;
    VectorSource::Npy(NpyReader::from_reader("v.npy", Cursor::new(bytes), Some(length)).unwrap())
}

fn good(n: usize) -> String {
    format!("{{\"id\": {n}, \"text\": \"{}\"}}\n", "x".repeat(n))
}

/// Ids and vectors of a batch, and the lines it rejects.
type Seen = (Vec<(String, Vec<f32>)>, Vec<u64>);

fn seen(batch: Batch) -> Seen {
    let record = |r: InputRecord| match r.vectors {
        InputVectors::Single(v) => (r.id.to_string(), v),
        _ => panic!("a record is incomplete"),
    };
    (batch.records.into_iter().map(record).collect(), batch.rejected.iter().map(|e| e.line).collect())
}

fn all(batches: Batches) -> Result<Vec<Seen>> {
    batches.map(|b| b.map(seen)).collect()
}

fn record(n: usize, vector: [f32; 2]) -> (String, Vec<f32>) {
    (n.to_string(), vector.to_vec())
}

#[test]
fn a_bad_line_takes_its_row_with_it() {
    let text = format!("{}\n\nbad\n{}{}", good(1), good(2), good(3));
    let rows = [[1.0, 1.0], [0.0, 0.0], [2.0, f32::NAN], [3.0, 3.0]];
    let found = all(Batches::new(lines(&text), npy(&rows), 10, true)).unwrap();
    assert_eq!(found, [(vec![record(1, rows[0]), record(3, rows[3])], vec![4, 5])]);
}

#[test]
fn without_keep_going_the_first_bad_line_is_the_last() {
    let text = format!("{}{}bad\n{}", good(1), good(2), good(3));
    let found = all(Batches::new(lines(&text), npy(&[[1.0, 1.0]; 4]), 10, false)).unwrap();
    assert_eq!(found, [(vec![record(1, [1.0, 1.0]), record(2, [1.0, 1.0])], vec![3])]);
}

#[test]
fn rows_and_records_must_be_equally_many() {
    let text = [good(1), good(2), good(3)].concat();
    for (rows, why) in [(2, "holds 2 rows, and the input has more"), (4, "holds 4 rows, and the input has 3 records")] {
        let error = all(Batches::new(lines(&text), npy(&vec![[1.0, 1.0]; rows]), 10, true)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(why) && error.remedy().is_some(), "{error}");
    }
    let mut batches = Batches::new(lines(&text), npy(&[[1.0, 1.0]; 2]), 2, true);
    assert!(batches.next().unwrap().is_ok() && batches.next().unwrap().is_err() && batches.next().is_none());
    assert!(all(Batches::new(lines(""), npy(&[]), 2, true)).unwrap().is_empty());
}

#[test]
fn a_record_without_any_vector_is_rejected_with_its_remedy() {
    let mut batches = Batches::new(lines(&good(1)), VectorSource::Lines, 10, true);
    let batch = batches.next().unwrap().unwrap();
    let error = &batch.rejected[0].error;
    assert!(batch.records.is_empty() && error.to_string() == "`in.jsonl` line 1: `vector` is missing");
    assert!(error.remedy().unwrap().contains("embeddings endpoint") && batches.next().is_none());
    let twice = "{\"id\": 1, \"text\": \"\", \"vector\": [1]}";
    let batch = Batches::new(lines(twice), npy(&[[1.0, 1.0]]), 10, true).next().unwrap().unwrap();
    assert!(batch.rejected[0].to_string().contains("given here and in the `.npy` file"));
}

#[test]
fn batches_are_bounded_in_lines_and_bytes() {
    let vector = "{\"id\": 0, \"text\": \"\", \"vector\": [1]}\n";
    let text: String = (0..10).map(|n| vector.replace('0', &n.to_string())).collect();
    let found = all(Batches::new(lines(&text), VectorSource::Lines, 4, true)).unwrap();
    assert_eq!(found.iter().map(|b| b.0.len()).collect::<Vec<_>>(), [4, 4, 2]);
    let large = |n: usize| {
        format!("{{\"id\": {n}, \"text\": \"{}\", \"vector\": [1]}}\n", "x".repeat(limits::INPUT_BATCH_BYTES * 2 / 5))
    };
    let text: String = (0..5).map(large).collect();
    let found = all(Batches::new(lines(&text), VectorSource::Lines, 4000, true)).unwrap();
    assert_eq!(found.iter().map(|b| b.0.len()).collect::<Vec<_>>(), [2, 2, 1]);
}

#[test]
fn missing_vectors_come_from_the_endpoint() {
    let server = Server::new(9, |_, asked| success(asked));
    let own = "{\"id\": 9, \"text\": \"own\", \"vector\": [7, 7]}\n";
    let text = format!("{}{own}{}bad\n{{\"id\": 5, \"text\": \" \"}}\n{}", good(1), good(2), good(3));
    let source = VectorSource::Embed(server.embedder());
    let found = all(Batches::new(lines(&text), source, 3, true)).unwrap();
    let first = vec![record(1, [1.0, 0.0]), record(9, [7.0, 7.0]), record(2, [2.0, 1.0])];
    assert_eq!(found, [(first, vec![]), (vec![record(3, [3.0, 0.0])], vec![4, 5])]);
    assert_eq!(server.finish().len(), 2);
}

#[test]
fn a_text_the_endpoint_refuses_is_a_bad_line() {
    let bad = "{\"id\": 8, \"text\": \"too long\"}\n";
    let text = format!("{}{bad}{}bad\n{}", good(1), good(2), good(3));
    for keep_going in [true, false] {
        let server = Server::new(99, |_, asked| {
            if asked.texts().contains(&"too long".to_owned()) { reply("400 No", "", "{}") } else { success(asked) }
        });
        let source = VectorSource::Embed(server.embedder());
        let found = all(Batches::new(lines(&text), source, 100, keep_going)).unwrap();
        let ids: Vec<&str> = found[0].0.iter().map(|r| &*r.0).collect();
        if keep_going {
            assert_eq!((ids, &found[0].1), (vec!["1", "2", "3"], &vec![2, 4]));
        } else {
            assert_eq!((ids, &found[0].1), (vec!["1"], &vec![2]));
        }
        assert_eq!(found.len(), 1);
        server.finish();
    }
}

proptest! {
    #[test]
    fn every_line_comes_out_once_with_its_own_vector(
        kinds in prop::collection::vec(0_u8..3, 0..40), most in 1_usize..10, keep_going: bool,
    ) {
        let line = |(n, kind): (usize, &u8)| match kind {
            0 => "bad\n".to_owned(),
            _ => good(n),
        };
        let text: String = kinds.iter().enumerate().map(line).collect();
        let rows: Vec<[f32; 2]> =
            kinds.iter().enumerate().map(|(n, kind)| [n as f32, if *kind == 1 { f32::NAN } else { 0.5 }]).collect();
        let found = all(Batches::new(lines(&text), npy(&rows), most, keep_going)).unwrap();
        let first_bad = kinds.iter().position(|k| *k < 2).map_or(kinds.len(), |n| n + 1);
        let end = if keep_going { kinds.len() } else { first_bad };
        let (mut records, mut rejected) = (Vec::new(), Vec::new());
        for (n, kind) in kinds.iter().enumerate().take(end) {
            if *kind == 2 { records.push(record(n, [n as f32, 0.5])) } else { rejected.push(n as u64 + 1) }
        }
        prop_assert!(found.iter().all(|b| (1..=most).contains(&(b.0.len() + b.1.len()))));
        prop_assert_eq!(found.iter().flat_map(|b| b.0.clone()).collect::<Vec<_>>(), records);
        prop_assert_eq!(found.iter().flat_map(|b| b.1.clone()).collect::<Vec<_>>(), rejected);
    }
}
