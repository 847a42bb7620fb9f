//! Each rule: what raises an alert, and what must not.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use strongroom::audit::alert::{AlertOptions, Rule};
use strongroom::audit::{Reason, RecordType, What, actions};
use strongroom::{envelope, token};

use crate::watch::{HOUR_MS, Watch};

fn scope() -> What {
    What::Refused { reason: Reason::Scope }
}

fn not_opened() -> What {
    What::OpenFailed { record: RecordType::Chunk, place: None, id: None }
}

/// Events that each rule counts, and from how many on.
fn counted() -> Vec<(Rule, usize, What)> {
    let redeem = |reason| What::RedeemRefused { reason };
    let received = |reason| What::EnvelopeRefused { reason };
    let action = |reason| What::ActionRefused { reason };
    vec![
        (Rule::OpenFailures, 1, not_opened()),
        (Rule::OpenFailures, 1, redeem(token::Refusal::Open)),
        (Rule::OpenFailures, 1, received(envelope::Refusal::Open)),
        (Rule::SignatureFailures, 5, What::SignaturesRefused { signatures: 1 }),
        (Rule::SignatureFailures, 5, redeem(token::Refusal::Signature)),
        (Rule::SignatureFailures, 5, redeem(token::Refusal::Proof)),
        (Rule::SignatureFailures, 5, received(envelope::Refusal::Signature)),
        (Rule::SignatureFailures, 5, action(actions::Refusal::Signature)),
        (Rule::CrossTenant, 3, scope()),
        (Rule::CrossTenant, 3, redeem(token::Refusal::Tenant)),
        (Rule::CrossTenant, 3, received(envelope::Refusal::Tenant)),
        (Rule::CrossTenant, 3, action(actions::Refusal::Tenant)),
        (Rule::TokenReplays, 3, redeem(token::Refusal::Replay)),
        (Rule::TokenReplays, 3, redeem(token::Refusal::UsedUp)),
        (Rule::TokenReplays, 3, received(envelope::Refusal::Replay)),
        (Rule::RandomSource, 1, What::HealthTestFailed { failures: 1 }),
    ]
}

#[test]
fn each_is_found_at_its_threshold_and_not_before() {
    for (rule, threshold, what) in counted() {
        let watch = Watch::new(AlertOptions::default());
        for _ in 1..threshold {
            watch.event("a", what.clone());
        }
        assert!(watch.found().is_empty(), "{rule} {what:?}");
        watch.event("a", what.clone());
        let found = watch.found();
        assert_eq!(found.len(), 1, "{rule} {what:?}");
        assert_eq!((found[0].rule, found[0].tenant.as_deref(), found[0].tripped), (rule, Some("a"), false));
        assert_eq!((found[0].count, found[0].service.as_deref()), (threshold as u64, Some("service")));
    }
}

#[test]
fn old_ones_and_those_of_others_do_not_add_up() {
    let watch = Watch::new(AlertOptions::default());
    for n in 0..20 {
        watch.event(&format!("tenant {n}"), scope());
        watch.event("a", scope());
        watch.clock.set(strongroom::clock::Clock::now_ms(&watch.clock) + 200_000);
    }
    assert!(watch.found().is_empty(), "{:?}", watch.found());
    // What is refused for ordinary reasons says nothing.
    for reason in [token::Refusal::Expired, token::Refusal::NotYet, token::Refusal::Contact, token::Refusal::Paused] {
        (0..10).for_each(|_| watch.event("a", What::RedeemRefused { reason }));
    }
    (0..10).for_each(|_| watch.event("a", What::Refused { reason: Reason::Role }));
    assert!(watch.found().is_empty());
}

#[test]
fn an_operator_is_told_once_and_then_how_often() {
    let watch = Watch::new(AlertOptions::default());
    (0..30).for_each(|_| watch.event("a", not_opened()));
    watch.event("b", not_opened());
    assert_eq!(watch.found().len(), 2, "one for each tenant");
    watch.clock.set(strongroom::clock::Clock::now_ms(&watch.clock) + HOUR_MS);
    watch.event("a", not_opened());
    let found = watch.found();
    assert_eq!((found.len(), found[2].held_back), (3, 29));
}

#[test]
fn a_burst_is_found_and_an_ordinary_week_is_not() {
    let watch = Watch::new(AlertOptions::default());
    // Whatever a tenant's first day brings.
    watch.hours("new", (0..23).map(|hour| if hour == 20 { 1_000_000 } else { 10 }));
    // An office: nothing at night, and a little more every day.
    watch.hours("office", (0..24 * 8).map(|hour| if (8..18).contains(&(hour % 24)) { 2_000 + hour * 10 } else { 0 }));
    // A job every night.
    watch.hours("nightly", (0..24 * 6).map(|hour| if hour % 24 == 3 { 40_000 } else { 5_000 }));
    assert!(watch.rules().is_empty(), "{:?}", watch.found());
    // Ten times what is usual is allowed, and no more.
    watch.hours("steady", (0..30).map(|_| 500));
    watch.hours("steady", [5_000]);
    assert!(watch.rules().is_empty());
    watch.read("steady", 1);
    assert_eq!(watch.rules(), [Rule::ReadingVolume]);
    let found = watch.found();
    assert_eq!((found[0].tenant.as_deref(), found[0].count, found[0].threshold), (Some("steady"), 5_001, 5_000));
    // A quiet tenant may have its floor.
    watch.hours("quiet", (0..30).map(|_| 1));
    watch.hours("quiet", [1_000]);
    assert_eq!(watch.rules().len(), 1);
    watch.read("quiet", 1);
    assert_eq!(watch.rules().len(), 2);
}

#[test]
fn slow_growth_is_usual_by_the_time_it_is_large() {
    let watch = Watch::new(AlertOptions::default());
    watch.hours("growing", (0..24 * 21).map(|hour| 1_000 << (hour / 72)));
    assert!(watch.rules().is_empty(), "{:?}", watch.found());
}

#[test]
fn a_restart_forgets_nothing_and_a_damaged_file_learns_anew() {
    let watch = Watch::new(AlertOptions::default());
    watch.hours("steady", (0..30).map(|_| 500));
    assert!(watch.rules().is_empty());
    let watch = watch.restart(AlertOptions::default());
    watch.hours("steady", [50_000]);
    assert_eq!(watch.rules(), [Rule::ReadingVolume]);
    let file = watch.dir.path().join(strongroom::audit::alert::BASELINE_FILE);
    let shared = watch.restart(AlertOptions::default());
    drop(std::fs::read(&file).unwrap());
    let Watch { sink, alerts, log, clock, dir } = shared;
    drop((sink, log, alerts));
    std::fs::write(&file, b"{\"v\":1,").unwrap();
    let again = Watch { dir, clock, ..Watch::new(AlertOptions::default()) }.restart(AlertOptions::default());
    again.hours("steady", [50_000]);
    assert!(again.rules().is_empty(), "a new tenant to whom nothing is known");
}

#[test]
fn a_log_that_is_not_written_is_found() {
    let watch = Watch::new(AlertOptions::default());
    watch.log.full.store(true, Ordering::SeqCst);
    watch.event("a", What::Refused { reason: Reason::Role });
    assert_eq!(watch.rules(), [Rule::LogStalled]);

    // One that hangs answers nobody, and still somebody hears of it.
    let watch = Watch::new(AlertOptions::default());
    watch.log.stuck.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        watch.clock.set(strongroom::clock::Clock::now_ms(&watch.clock) + 300_000);
        watch.alerts.settle();
    }
    assert_eq!(watch.rules(), [Rule::LogStalled]);
    watch.log.stuck.store(false, Ordering::SeqCst);

    // A quiet one says that it is written.
    let watch = Watch::new(AlertOptions::default());
    for beats in 1..4 {
        watch.clock.set(strongroom::clock::Clock::now_ms(&watch.clock) + 300_000);
        watch.alerts.settle();
        let end = Instant::now() + Duration::from_secs(10);
        let beaten = || watch.log.kept.events().iter().filter(|e| matches!(e.what, What::Heartbeat { .. })).count();
        while beaten() < beats && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(beaten(), beats);
    }
    assert!(watch.rules().is_empty(), "{:?}", watch.found());
}

#[test]
fn a_clock_that_is_set_is_found_and_one_that_runs_is_not() {
    let watch = Watch::new(AlertOptions::default());
    let now_ms = || strongroom::clock::Clock::now_ms(&watch.clock);
    watch.clock.set(now_ms() + 5 * HOUR_MS);
    assert!(watch.rules().is_empty(), "time passes");
    watch.clock.jump(now_ms() + 9_000);
    assert!(watch.rules().is_empty(), "a little");
    watch.clock.jump(now_ms() - HOUR_MS);
    assert_eq!(watch.rules(), [Rule::ClockJump]);
    assert_eq!(watch.found()[0].count, HOUR_MS);

    // Over a restart of the machine, time may have passed; backwards it has not.
    let watch = Watch::new(AlertOptions::default());
    watch.clock.reboot();
    watch.clock.jump(strongroom::clock::Clock::now_ms(&watch.clock) + 24 * HOUR_MS);
    let watch = watch.restart(AlertOptions::default());
    assert!(watch.rules().is_empty());
    watch.clock.reboot();
    watch.clock.jump(strongroom::clock::Clock::now_ms(&watch.clock) - HOUR_MS);
    let watch = watch.restart(AlertOptions::default());
    assert_eq!(watch.rules(), [Rule::ClockJump]);
}

#[test]
fn options_that_cannot_be_kept_are_refused() {
    let refused = |options: AlertOptions| {
        let watch = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Watch::new(options)));
        assert!(watch.is_err());
    };
    refused(AlertOptions { open_failures: 0, ..AlertOptions::default() });
    refused(AlertOptions { window_ms: 0, ..AlertOptions::default() });
    refused(AlertOptions { trips: BTreeSet::from([Rule::ClockJump]), ..AlertOptions::default() });
    for rule in Rule::ALL {
        assert_eq!(rule.as_str().parse::<Rule>().unwrap(), rule);
    }
    assert!("cross_tenant".parse::<Rule>().is_err());
}
