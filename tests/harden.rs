//! Guards against keys that reach a disk, by swap or by a core dump.

use strongroom::harden::{lock_memory, no_dumps};
use strongroom::locked::LockPolicy;

/// In KiB.
fn locked() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmLck:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

// One test: what it does is done to the process.
#[test]
fn a_service_is_neither_dumped_nor_swapped_out() {
    no_dumps().unwrap();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(cores.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    assert_eq!(rustix::process::dumpable_behavior().unwrap(), rustix::process::DumpableBehavior::NotDumpable);

    assert!(!lock_memory(LockPolicy::Never).unwrap());
    assert_eq!(locked(), 0);
    if !lock_memory(LockPolicy::Prefer).unwrap() {
        // Where there is a limit it is all or nothing, and said.
        assert_eq!(locked(), 0);
        assert!(lock_memory(LockPolicy::Require).unwrap_err().remedy().unwrap().contains("ulimit -l unlimited"));
        return;
    }
    let before = locked();
    let later = std::hint::black_box(vec![1_u8; 8 << 20]);
    assert!(locked() >= before + (7 << 10), "what is allocated later is not locked: {before} KiB, {} KiB", locked());
    drop(later);
    // Stacks that nobody uses are not made to take memory.
    let threads: Vec<_> = (0..64).map(|_| std::thread::spawn(std::thread::park)).collect();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident: u64 = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    threads.iter().for_each(|thread| thread.thread().unpark());
    assert!(resident < 64 << 10, "{resident} KiB");
}
