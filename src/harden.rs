//! Keeps what a process holds out of core dumps, out of swap, and away from other processes of the same user.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use crate::error::{Error, ErrorKind, Result};
use crate::locked::LockPolicy;

/// No core dumps, and no other process of the same user that looks into this one's memory.
pub fn no_dumps() -> Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(std::io::Error::from)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(std::io::Error::from)?;
    Ok(())
}

/// Keeps every page of this process out of swap, now and later: for services that hold keys and little else. Says
/// whether it did.
///
/// Only where no limit (`RLIMIT_MEMLOCK`) stands against it, or this process is above limits: reaching one later would
/// look like memory that has run out, which ends a process.
///
/// # Errors
///
/// [`Unavailable`](ErrorKind::Unavailable) under [`LockPolicy::Require`] where it cannot be done.
pub fn lock_memory(policy: LockPolicy) -> Result<bool> {
    if policy == LockPolicy::Never {
        return Ok(false);
    }
    let limit = getrlimit(Resource::Memlock);
    // With a limit of nothing only who is above limits gets through.
    let current = if limit.maximum.is_none() { None } else { Some(0) };
    setrlimit(Resource::Memlock, Rlimit { current, maximum: limit.maximum }).map_err(std::io::Error::from)?;
    // Pages that nobody has touched, as those of stacks, take no memory for it.
    let locked = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).is_ok();
    if current.is_some() {
        setrlimit(Resource::Memlock, limit).map_err(std::io::Error::from)?;
    }
    if locked {
        return Ok(true);
    }
    if policy == LockPolicy::Require {
        return Err(Error::new(ErrorKind::Unavailable, "the system refuses to lock this process in memory").with_remedy(
            "run `ulimit -l unlimited`, or set `LimitMEMLOCK=infinity` in the systemd unit, or `memory_lock` to `prefer`",
        ));
    }
    Ok(false)
}

/// The memory that this process may use: the machine's, or less where its control group says so. `None` where neither can
/// be read.
pub fn memory_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    });
    // Of the second version, as it is seen inside a container; `max` where there is no limit.
    let group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse::<u64>().ok());
    machine.into_iter().chain(group).min()
}
