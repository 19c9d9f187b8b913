//! SIGINT and SIGTERM end the run, which then prints its report.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::Signal;

use crate::blocked_signals;

/// Whether the user has asked for the end of the run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Starts a thread that waits for signals. The second one ends the process at once.
    pub(crate) fn on_signal() -> io::Result<Self> {
        let signals = blocked_signals::block(&[Signal::SIGINT, Signal::SIGTERM])?;
        let interrupt = Self::default();
        let raised = Arc::clone(&interrupt.0);
        let watch = move || {
            while let Ok(signal) = signals.wait() {
                if raised.swap(true, Ordering::Relaxed) {
                    process::exit(128 + signal as i32);
                }
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(watch)?;
        Ok(interrupt)
    }

    #[inline]
    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
