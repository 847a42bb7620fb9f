//! Each envelope is received once: copies, late ones, and copies that race.

use std::sync::Barrier;

use strongroom::envelope::Refusal;
use strongroom::keys::Profile;
use strongroom::limits;
use strongroom::replay::WINDOW;

use super::agents::{pair, payload};
use super::world::{World, patiently};

#[test]
fn a_copy_is_refused() {
    let world = World::new();
    for profile in Profile::ALL {
        let (sender, receiver) = pair(&world, profile);
        let peer = sender.connect(&receiver);
        for n in 0..3_u8 {
            let sent = sender.send(&peer, &[n]);
            assert_eq!(payload(receiver.receive(&sent)), [n]);
            receiver.refuses(&sent, Refusal::Replay, "a copy");
        }
    }
}

/// Guards against a window that refuses what was only overtaken, or receives what it cannot remember.
#[test]
fn order_does_not_matter_within_the_window_and_nothing_comes_beyond_it() {
    let world = World::new();
    let (sender, receiver) = pair(&world, Profile::Pure);
    let peer = sender.connect(&receiver);
    let count = WINDOW as usize + 2;
    let sent: Vec<_> = (0..count).map(|n| sender.send(&peer, &n.to_be_bytes())).collect();
    // The first introduces the signer: whoever has not received it cannot believe the second.
    receiver.refuses(&sent[1], Refusal::Signer, "a stranger's envelope");
    assert_eq!(receiver.receive(&sent[0]).unwrap().origin().sequence(), 0);
    let last = count - 1;
    assert_eq!(receiver.receive(&sent[last]).unwrap().origin().sequence(), last as u64);
    receiver.refuses(&sent[0], Refusal::Replay, "one that was received");
    receiver.refuses(&sent[1], Refusal::Replay, "one beyond the window");
    for n in (2..last).rev() {
        assert_eq!(payload(receiver.receive(&sent[n])), n.to_be_bytes(), "{n}");
    }
    for (n, envelope) in sent.iter().enumerate() {
        receiver.refuses(envelope, Refusal::Replay, &format!("number {n} again"));
    }
}

/// Sixty-four threads receive the same envelope: one of them does.
#[test]
fn of_racing_copies_one_is_received() {
    const THREADS: usize = 64;
    let world = World::new();
    for profile in Profile::ALL {
        let (sender, receiver) = pair(&world, profile);
        let peer = sender.connect(&receiver);
        // The first one is decapsulated by all of them, the others are not.
        for round in 0..4_u8 {
            let (sent, gate, before) = (sender.send(&peer, &[round]), Barrier::new(THREADS), receiver.reasons().len());
            let received: Vec<_> = std::thread::scope(|scope| {
                let receive = || {
                    gate.wait();
                    receiver.receive(&sent)
                };
                let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(receive)).collect();
                threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
            });
            assert_eq!(received.len(), 1, "{profile}");
            assert_eq!(received[0].payload().expose_secret(), [round]);
            assert_eq!(receiver.reasons()[before..], [Refusal::Replay; THREADS - 1], "{profile}");
        }
    }
}

#[test]
fn a_bulk_is_received_in_its_order_and_fails_one_by_one() {
    let world = World::new();
    let (sender, receiver) = pair(&world, Profile::Hybrid);
    let peer = sender.connect(&receiver);
    let payloads: Vec<_> = (0..100_u8).map(|n| vec![n; 1 + usize::from(n)]).collect();
    let message = |payload| strongroom::envelope::Message {
        kind: strongroom::envelope::Kind::ToolResult,
        correlation: b"bulk",
        payload,
    };
    let long = vec![0; limits::ENVELOPE_PAYLOAD_BYTES + 1];
    let mut messages: Vec<_> = payloads.iter().map(|payload| message(payload)).collect();
    messages.insert(0, message(&long));
    let sent = patiently(|| sender.interceptor.send_many(&peer, &messages)).unwrap();
    assert!(sent[0].as_ref().is_err_and(|e| e.kind() == strongroom::ErrorKind::InvalidInput));
    let mut envelopes: Vec<_> = sent.into_iter().flatten().collect();
    assert_eq!(envelopes.len(), 100);
    envelopes.insert(50, envelopes[10].clone());
    envelopes.insert(70, b"no envelope".to_vec());
    let received = receiver.interceptor.receive_many(&envelopes).unwrap();
    let good = |n: &usize| *n != 10 && *n != 50 && *n != 70;
    assert!(received[70].is_err() && (received[10].is_ok() != received[50].is_ok()));
    let opened = (0..received.len()).filter(good).map(|n| received[n].as_ref().unwrap());
    for (received, (n, payload)) in opened.zip(payloads.iter().enumerate().filter(|(n, _)| *n != 10)) {
        assert_eq!(received.payload().expose_secret(), payload);
        assert_eq!((received.origin().sequence(), received.correlation()), (1 + n as u64, &b"bulk"[..]));
    }
    assert!(receiver.interceptor.receive_many::<Vec<u8>>(&[]).unwrap().is_empty());
    let many = vec![b""; limits::ENVELOPE_BULK + 1];
    assert!(receiver.interceptor.receive_many(&many).is_err());
}
