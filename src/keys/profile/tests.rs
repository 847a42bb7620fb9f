//! Guards against a negotiation that falls back on what one side did not offer, or that the two sides see differently.

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::*;

fn offers() -> impl Strategy<Value = Offer> {
    subsequence(Profile::ALL.to_vec(), 1..=4).prop_shuffle().prop_map(|profiles| Offer::new(profiles).unwrap())
}

/// All 16 ordered pairs of peers that know one profile each.
#[test]
fn every_pair_agrees_or_is_refused_loudly() {
    for initiator in Profile::ALL {
        for responder in Profile::ALL {
            let negotiated = negotiate(&initiator.into(), &responder.into());
            if initiator == responder {
                assert_eq!(negotiated.unwrap().profile(), initiator);
                continue;
            }
            let refused = negotiated.err().unwrap();
            assert_eq!(refused.kind(), ErrorKind::Denied);
            for text in [refused.to_string(), refused.remedy().unwrap().to_owned()] {
                assert!(text.contains(&format!("`{initiator}`")) && text.contains(&format!("`{responder}`")), "{text}");
            }
        }
    }
}

/// All 16 ordered pairs of first choices, where both sides accept everything: the initiator's choice counts.
#[test]
fn the_initiators_preference_decides() {
    let liking = |first: Profile| {
        let rest = Profile::ALL.into_iter().filter(|profile| *profile != first);
        Offer::new([first].into_iter().chain(rest).collect()).unwrap()
    };
    for initiator in Profile::ALL {
        for responder in Profile::ALL {
            assert_eq!(negotiate(&liking(initiator), &liking(responder)).unwrap().profile(), initiator);
        }
    }
}

#[test]
fn a_transcript_is_the_documented_one() {
    let (one, other) = (Offer::new(vec![Profile::Cnsa2, Profile::Hybrid]).unwrap(), Profile::Hybrid.into());
    let label = b"\x00\x00\x00\x21strongroom profile negotiation v1".as_slice();
    let bytes = [label, b"\x00\x00\x00\x04\x01\x02\x03\x01", b"\x00\x00\x00\x03\x01\x01\x01", b"\x00\x00\x00\x01\x01"];
    let expected: [u8; 48] = Sha384::digest(bytes.concat()).into();
    assert_eq!(negotiate(&one, &other).unwrap().transcript(), &expected);
}

#[test]
fn names_and_numbers_stay() {
    for (number, profile) in (1..).zip(Profile::ALL) {
        assert_eq!(profile.as_u8(), number);
        assert_eq!(profile.as_str().parse::<Profile>().unwrap(), profile);
        assert_eq!(serde_json::to_string(&profile).unwrap(), format!("\"{profile}\""));
    }
    let refused = "classical".parse::<Profile>().err().unwrap();
    assert_eq!(
        (refused.kind(), refused.to_string().as_str()),
        (ErrorKind::InvalidInput, "there is no profile `classical`, only `hybrid`, `pure`, `cnsa2`, `fips`")
    );
}

/// The manual's table has a row for each profile with what the code uses.
#[test]
fn the_manuals_table_is_the_codes() {
    let manual = include_str!("../../manual/profiles.md");
    for profile in Profile::ALL {
        let row = manual.lines().find(|line| line.starts_with(&format!("| `{profile}`"))).unwrap();
        let suite = profile.suite().as_str();
        let used =
            [profile.kem().as_str(), profile.signature().as_str(), profile.authority_signature().as_str(), suite];
        for name in used {
            assert!(row.contains(&format!("`{name}`")), "{row} lacks {name}");
        }
    }
}

#[test]
fn what_is_not_an_offer_is_refused() {
    let malformed: [&[u8]; 12] = [
        b"",
        b"\x01",
        b"\x01\x00",
        b"\x00\x01\x01",
        b"\x02\x01\x01",
        b"\x01\x01",
        b"\x01\x01\x00",
        b"\x01\x01\x05",
        b"\x01\x01\x01\x02",
        b"\x01\x02\x01",
        b"\x01\x02\x01\x01",
        b"\x01\x05\x01\x02\x03\x04\x01",
    ];
    for bytes in malformed {
        let refused = Offer::decode(bytes).err().unwrap();
        assert_eq!(
            (refused.kind(), refused.to_string().as_str()),
            (ErrorKind::InvalidInput, "malformed offer of profiles")
        );
    }
    assert!(Offer::new(vec![]).is_err());
    assert!(Offer::new(vec![Profile::Pure, Profile::Fips, Profile::Pure]).is_err());
}

proptest! {
    #[test]
    fn an_agreement_is_the_initiators_first_common_choice(initiator in offers(), responder in offers()) {
        let common: Vec<_> = initiator.profiles().iter().filter(|p| responder.profiles().contains(p)).collect();
        match negotiate(&initiator, &responder) {
            Ok(agreement) => {
                prop_assert_eq!(agreement.profile(), *common[0]);
                // Whoever asks, and however often.
                prop_assert_eq!(&negotiate(&initiator, &responder).unwrap(), &agreement);
                // The other way round it is about the same profiles.
                prop_assert!(common.contains(&&negotiate(&responder, &initiator).unwrap().profile()));
            }
            Err(refused) => {
                prop_assert!(common.is_empty());
                prop_assert_eq!(refused.kind(), ErrorKind::Denied);
            }
        }
    }

    /// Who tampers with an offer changes the transcript, even where the choice stays the same.
    #[test]
    fn a_changed_offer_changes_the_transcript(one in offers(), other in offers(), changed in offers()) {
        if let (Ok(agreement), Ok(tampered)) = (negotiate(&one, &other), negotiate(&one, &changed)) {
            prop_assert_eq!(agreement.transcript() == tampered.transcript(), other == changed);
        }
        if let (Ok(agreement), Ok(tampered)) = (negotiate(&one, &other), negotiate(&changed, &other)) {
            prop_assert_eq!(agreement.transcript() == tampered.transcript(), one == changed);
        }
    }

    #[test]
    fn an_offer_has_one_encoding(offer in offers(), at: Index, byte: u8) {
        let mut bytes = offer.encode();
        prop_assert_eq!(&Offer::decode(&bytes).unwrap(), &offer);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(other) = Offer::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
        }
    }

    #[test]
    fn any_bytes_are_an_offer_or_refused(bytes in proptest::collection::vec(0..6u8, 0..8)) {
        if let Ok(offer) = Offer::decode(&bytes) {
            prop_assert_eq!(offer.encode(), bytes);
        }
    }
}
