//! Watching: who is told of commits, what caches are promised, and what a write can wait for.

pub(crate) mod feed;
pub mod leases;
pub mod live;
mod ring;

use crate::time::BootTime;

/// Tells the time since the machine's start; see [`BootTime`].
pub type BootClock = std::sync::Arc<dyn Fn() -> BootTime + Send + Sync>;

/// `CLOCK_BOOTTIME` of the operating system.
pub fn boot_clock() -> BootClock {
    std::sync::Arc::new(boot_time)
}

/// Now, by `CLOCK_BOOTTIME`.
pub fn boot_time() -> BootTime {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    BootTime::new(std::time::Duration::new(seconds, nanos))
}
