//! Guards against one certificate in two encodings, and against bytes that break the reader.

use proptest::prelude::*;
use strongroom::ErrorKind;
use strongroom::keys::Profile;
use strongroom::keys::certificate::{Certificate, from_pem, to_pem};
use strongroom::limits;

use super::world::{NOW_MS, World, world};

#[test]
fn only_the_canonical_encoding_is_read() {
    let der = world(Profile::Cnsa2).tenant.as_der();
    assert!(Certificate::from_der(der).is_ok());
    let trailing = [der, &[0]].concat();
    // The length of the whole in three bytes instead of two, and left open.
    let (tag, length, rest) = (der[0], &der[1..4], &der[4..]);
    assert_eq!((tag, length[0]), (0x30, 0x82));
    let longer = [&[0x30, 0x83, 0, length[1], length[2]], rest].concat();
    let open = [&[0x30, 0x80], rest, &[0, 0]].concat();
    // The first date as GeneralizedTime: RFC 5280 has UTCTime before 2050.
    let at = der.windows(2).position(|w| w == [0x17, 0x0d]).unwrap();
    let mut general = der.to_vec();
    general.splice(at..at + 2, [0x18, 0x0f, b'2', b'0']);
    // Two more bytes in each of Validity, TBSCertificate and Certificate.
    general[at - 1] += 2;
    for at in [2, 6] {
        let n = u16::from_be_bytes([general[at], general[at + 1]]) + 2;
        general[at..at + 2].copy_from_slice(&n.to_be_bytes());
    }
    let oversize = vec![0x30; limits::CERTIFICATE_BYTES + 1];
    for bad in [&trailing, &longer, &open, &general, &oversize, &der[..der.len() - 1].to_vec(), &Vec::new()] {
        assert_eq!(Certificate::from_der(bad).err().map(|e| e.kind()), Some(ErrorKind::InvalidInput));
    }
    assert!(Certificate::from_der(&general).unwrap_err().to_string().contains("canonical"));
    assert!(Certificate::from_der(&oversize).unwrap_err().to_string().contains("too long"));
}

#[test]
fn pem_is_read_back_and_nothing_else_is() {
    let w = world(Profile::Hybrid);
    let all = [std::slice::from_ref(&w.authority), &w.chain()].concat();
    let text = to_pem(&all).unwrap();
    assert!(from_pem(&text).unwrap() == all);
    assert!(from_pem(&format!("\n {}\n\n", text.replace('\n', "\r\n"))).unwrap() == all);

    let one = to_pem(&all[1..2]).unwrap();
    let bad = [
        String::new(),
        " \n".to_owned(),
        "-----BEGIN CERTIFICATE-----".to_owned(),
        one.replace("CERTIFICATE", "PRIVATE KEY"),
        one.replace("END CERTIFICATE", "END TRUST"),
        one.replacen('M', "!", 1),
        format!("subject=acme\n{one}"),
        format!("{one}and more"),
        one.repeat(limits::CHAIN_CERTIFICATES + 1),
        "-".repeat(limits::CERTIFICATE_FILE_BYTES + 1),
    ];
    for text in bad {
        let e = from_pem(&text).err().unwrap_or_else(|| panic!("accepted: {}", &text[..text.len().min(80)]));
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
    }
}

/// Whether the chain `tenant`, `session` is accepted, given as bytes.
fn accepted(w: &World, tenant: &[u8], session: &[u8]) -> bool {
    match (Certificate::from_der(tenant), Certificate::from_der(session)) {
        (Ok(tenant), Ok(session)) => w.verify(&[tenant, session], NOW_MS).is_ok(),
        _ => false,
    }
}

#[test]
fn no_bit_outside_the_long_values_can_be_flipped() {
    // Every bit of a session credential before its key's bytes and after its signature's first ones.
    let w = world(Profile::Pure);
    let (tenant, session) = (w.tenant.as_der(), w.session.as_der());
    assert!(accepted(w, tenant, session));
    let key = w.verify(&w.chain(), NOW_MS).unwrap().session().unwrap().key().1.to_vec();
    let at = session.windows(key.len()).position(|window| window == key).unwrap();
    let signature = session.len() - 3309;
    for byte in (0..at + 1).chain(at + key.len()..signature + 1) {
        for bit in 0..8 {
            let mut flipped = session.to_vec();
            flipped[byte] ^= 1 << bit;
            assert!(!accepted(w, tenant, &flipped), "byte {byte}, bit {bit}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_single_bit_of_a_chain_can_be_flipped(which in 0usize..2, profile in 0usize..3, at: prop::sample::Index) {
        let w = world([Profile::Hybrid, Profile::Pure, Profile::Cnsa2][profile]);
        let mut chain = [w.tenant.as_der().to_vec(), w.session.as_der().to_vec()];
        let bit = at.index(chain[which].len() * 8);
        chain[which][bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!accepted(w, &chain[0], &chain[1]));
    }

    #[test]
    fn cut_certificates_are_refused(at: prop::sample::Index) {
        let der = world(Profile::Cnsa2).tenant.as_der();
        prop_assert!(Certificate::from_der(&der[..at.index(der.len())]).is_err());
    }

    #[test]
    fn hostile_bytes_never_panic(bytes: Vec<u8>, text in "(-----BEGIN CERTIFICATE-----)?[ -~\n]{0,200}") {
        let _ = Certificate::from_der(&bytes);
        let _ = from_pem(&text);
    }

    #[test]
    fn spliced_certificates_never_panic(at: prop::sample::Index, patch: Vec<u8>) {
        let w = world(Profile::Cnsa2);
        let mut der = w.tenant.as_der().to_vec();
        let at = at.index(der.len());
        let end = (at + patch.len()).min(der.len());
        let changed = der[at..end] != patch[..end - at];
        der[at..end].copy_from_slice(&patch[..end - at]);
        if let Ok(read) = Certificate::from_der(&der) {
            prop_assert_eq!(w.verify(&[read], NOW_MS).is_ok(), !changed);
        }
    }
}
