//! Pins workers to CPUs.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread, to the kernel.
const THIS_THREAD: Pid = Pid::from_raw(0);

/// The CPUs that this thread may use, in ascending order.
pub(super) fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(THIS_THREAD)?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// Restricts this thread to one CPU.
pub(super) fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(THIS_THREAD, &set).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("cannot be pinned to CPU {cpu}: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_use_only_its_cpu() {
        let last = *allowed().expect("a mask").last().expect("this thread runs somewhere");
        std::thread::spawn(move || {
            pin(last).expect("the CPU is allowed");
            assert_eq!(allowed().expect("a mask"), [last]);
        })
        .join()
        .expect("the thread has not panicked");
    }
}
