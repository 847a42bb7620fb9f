//! Guards against `.npy` files that are not what they say; the sample corpus is a good one, written by numpy itself.

use std::io::Cursor;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;

/// A file as numpy writes it (NEP 1, version 1.0).
fn npy(descr: &str, fortran: bool, shape: &[u64], data: &[u8]) -> Vec<u8> {
    let axes: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let order = if fortran { "True" } else { "False" };
    by_hand(&format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({axes}), }}"), data)
}

fn le32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn by_hand(header: &str, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [&b"\x93NUMPY\x01\x00"[..], &length, header.as_bytes(), data].concat()
}

fn f32s(shape: &str, values: &[f32]) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    by_hand(&header, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

fn reader(bytes: &[u8], known: bool) -> Result<NpyReader> {
    NpyReader::from_reader("v.npy", Cursor::new(bytes.to_vec()), known.then_some(bytes.len() as u64))
}

fn rows(mut reader: NpyReader) -> Result<Vec<Result<Vec<f32>>>> {
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row()? {
        rows.push(row);
    }
    Ok(rows)
}

fn good_rows(bytes: &[u8]) -> Vec<Vec<f32>> {
    rows(reader(bytes, true).unwrap()).unwrap().into_iter().map(Result::unwrap).collect()
}

fn refusal(bytes: &[u8], known: bool) -> String {
    let error = reader(bytes, known).and_then(rows).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    format!("{error}; {}", error.remedy().expect("a remedy"))
}

#[test]
fn every_allowed_type_is_read() {
    let want = [[1.0, -2.5], [0.5, 4.0], [65504.0, 0.0]];
    let flat: Vec<f32> = want.concat();
    assert_eq!(good_rows(&npy("<f4", false, &[3, 2], &le32(&flat))), want);
    let narrow: Vec<f16> = flat.iter().map(|x| f16::from_f32(*x)).collect();
    let header = "{'descr': '<f2', 'fortran_order': False, 'shape': (3, 2), }          \n";
    assert_eq!(good_rows(&by_hand(header, &narrow.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())), want);
    let wide: Vec<u8> = flat.iter().flat_map(|x| f64::from(*x).to_le_bytes()).collect();
    assert_eq!(good_rows(&npy("<f8", false, &[3, 2], &wide)), want);
    assert!(good_rows(&npy("<f4", false, &[0, 2], &[])).is_empty());
}

#[test]
fn what_numpy_wrote_is_read() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/sample/jargon/query_vectors.f16.npy");
    let found = rows(NpyReader::open(&sample).unwrap()).unwrap();
    assert_eq!(found.len(), 40);
    for row in found {
        let row = row.unwrap();
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!(row.len() == 384 && (length - 1.0).abs() < 1e-2, "embeddings of the sample have length 1");
    }
}

#[test]
fn a_file_is_opened_and_measured() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.npy");
    let bytes = f32s("(2, 1)", &[1.0, 2.0]);
    std::fs::write(&path, &bytes).unwrap();
    let found = NpyReader::open(&path).unwrap();
    assert_eq!((found.rows(), found.dimensions()), (2, 1));
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(NpyReader::open(&path).is_err());
    assert_eq!(NpyReader::open(dir.path()).err().unwrap().kind(), ErrorKind::InvalidInput);
    assert_eq!(NpyReader::open(&dir.path().join("none")).err().unwrap().kind(), ErrorKind::NotFound);
}

#[test]
fn each_wrong_array_is_named_with_its_remedy() {
    let header = |descr: &str, shape: &str| {
        by_hand(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"), &[])
    };
    for (bytes, why) in [
        (npy("<f4", true, &[2, 3], &[0; 24]), "Fortran order"),
        (npy("<f4", false, &[6], &[0; 24]), "has 1 axes"),
        (npy("<f4", false, &[1, 2, 3], &[0; 24]), "has 3 axes"),
        (npy("<i8", false, &[2, 3], &[0; 48]), "type `<i8`"),
        (header("'>f4'", "(1, 1)"), "type `>f4`"),
        (header("'|O'", "(1, 1)"), "type `|O`"),
        (header("[('a', '<f4'), ('b', '<f4')]", "(1, 1)"), "type `[('a', '<f4'), ('b', '<f4')]`"),
        (header("'<f4'", "(3, 0)"), "has 0 dimensions"),
        (header("'<f4'", "(3, 65537)"), "has 65537 dimensions"),
        (header("'<f4'", "(18446744073709551615, 65536)"), "holds 0 of the 18446744073709551615 rows"),
        (header("'<f4'", "(18446744073709551616, 1)"), "not a plain array's"),
        (header("'<f4'", "(-1, 1)"), "not a plain array's"),
        (b"{\"id\": 1}".to_vec(), "not a `.npy` file"),
        (Vec::new(), "not a `.npy` file"),
        (b"\x93NUMPY\x09\x00\x00\x00".to_vec(), "version 9.0"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "header of 4294967295 bytes"),
        (b"\x93NUMPY\x01\x00\x40\x00{'descr'".to_vec(), "ends inside its header"),
    ] {
        let found = refusal(&bytes, true);
        assert!(found.contains(why), "{found}");
    }
}

#[test]
fn a_length_that_does_not_fit_is_found_up_front_or_on_the_way() {
    let whole = f32s("(3, 2)", &[0.0; 6]);
    let cut = &whole[..whole.len() - 5];
    assert!(refusal(cut, true).contains("holds 2 of the 3 rows"));
    assert!(refusal(cut, false).contains("ends inside row 2 of 3"));
    let long = [&whole[..], &[0]].concat();
    assert!(refusal(&long, true).contains("goes on after the 3 rows"));
    assert!(refusal(&long, false).contains("goes on after the 3 rows"));
}

#[test]
fn a_row_that_is_not_finite_is_named_and_skipped() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let found = rows(reader(&f32s("(3, 2)", &[1.0, 2.0, 3.0, bad, 5.0, 6.0]), true).unwrap()).unwrap();
        assert!(found[0].is_ok() && found[2].as_ref().unwrap() == &[5.0, 6.0]);
        assert!(found[1].as_ref().unwrap_err().to_string().contains("row 1 (counting from 0)"));
    }
    let wide = npy("<f8", false, &[1, 1], &1e300_f64.to_le_bytes());
    assert!(rows(reader(&wide, true).unwrap()).unwrap()[0].is_err());
}

proptest! {
    #[test]
    fn what_is_written_is_read(rows in 0_usize..6, dimensions in 1_usize..6, seed: u32) {
        let data: Vec<f32> = (0..rows * dimensions).map(|n| (seed as f32) + n as f32).collect();
        let found = good_rows(&npy("<f4", false, &[rows as u64, dimensions as u64], &le32(&data)));
        prop_assert_eq!(found.len(), rows);
        prop_assert_eq!(found.concat(), data);
    }

    #[test]
    fn hostile_headers_never_panic(
        text in "(\\{|\\}|\\(|\\)|\\[|\\]|'|\"|:|,|descr|'descr': |'fortran_order': |'shape': |'<f4'|True|False|[0-9]|ä| ){0,40}",
        bytes: Vec<u8>,
        known: bool,
    ) {
        let nested = "(".repeat(5000);
        for bytes in [by_hand(&text, &bytes), by_hand(&nested, &[]), bytes.clone(), [b"\x93NUMPY", &bytes[..]].concat()] {
            if let Ok(reader) = reader(&bytes, known) {
                let _ = rows(reader);
            }
        }
    }

    #[test]
    fn any_flipped_byte_is_read_or_refused(at: prop::sample::Index, mask in 1_u8..) {
        let mut bytes = f32s("(3, 2)", &[1.0; 6]);
        let at = at.index(bytes.len());
        bytes[at] ^= mask;
        if let Ok(found) = reader(&bytes, true).and_then(rows) {
            prop_assert!(found.iter().flatten().all(|row| row.iter().all(|x| x.is_finite())));
        }
    }
}
