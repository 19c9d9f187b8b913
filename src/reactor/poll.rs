//! The system calls of a worker: epoll, the clock, its listeners. It makes no decisions.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Waker};

use super::batches::READY_PER_TURN;
use super::driver::Driver;
use super::listener::Listener;
use super::slots::Token;
use super::socket::{Socket, address_of};
use super::worker::Worker;
use crate::conn::transport::Readiness;
use crate::connection_info::Address;
use crate::handler::Handler;
use crate::tls::TlsConfig;

/// An epoll instance and its event buffer.
#[derive(Debug)]
pub(crate) struct Reactor {
    poll: Poll,
    events: Events,
    busy_poll: Duration,
}

impl Reactor {
    /// Creates an epoll instance with `listeners` registered, the driver for its worker, and a
    /// waker for other threads. The instance polls without blocking for `busy_poll` before it
    /// blocks.
    pub(crate) fn new(
        listeners: Vec<Listener>,
        busy_poll: Duration,
    ) -> io::Result<(Self, SocketDriver, Arc<Waker>)> {
        let poll = Poll::new()?;
        for (index, listener) in (0..).zip(&listeners) {
            poll.registry().register(
                &mut SourceFd(&listener.as_raw_fd()),
                Token::listener(index).into(),
                Interest::READABLE,
            )?;
        }
        let waker = Arc::new(Waker::new(poll.registry(), Token::WAKER.into())?);
        let registry = poll.registry().try_clone()?;
        let driver = SocketDriver { registry, listeners, wakers: Vec::new() };
        let events = Events::with_capacity(READY_PER_TURN);
        Ok((Self { poll, events, busy_poll }, driver, waker))
    }

    /// Runs the turns of `worker` until it is done.
    ///
    /// # Errors
    ///
    /// The errors of epoll_wait(2), which does not fail for a valid descriptor.
    pub(crate) fn run<H: Handler>(
        &mut self,
        worker: &mut Worker<SocketDriver, H>,
    ) -> io::Result<()> {
        let mut wait = worker.wait(Instant::now());
        while !worker.is_done() {
            self.poll(wait)?;
            let ready = self.events.iter().map(|event| (event.token().into(), readiness(event)));
            worker.turn(ready, Instant::now());
            // The end of this turn is the start of the next wait, so its time costs no clock call.
            wait = worker.wait_after(worker.count_turn(Instant::now()));
        }
        Ok(())
    }

    /// Collects readiness events. Waits at most `wait` for the first one.
    fn poll(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let spin = wait.map_or(self.busy_poll, |wait| self.busy_poll.min(wait));
        if !spin.is_zero() {
            let since = Instant::now();
            while since.elapsed() < spin {
                self.epoll_wait(Some(Duration::ZERO))?;
                if !self.events.is_empty() {
                    return Ok(());
                }
            }
        }
        self.epoll_wait(wait.map(|wait| wait - spin))
    }

    /// Calls epoll_wait(2).
    ///
    /// A wait that a signal interrupts is not resumed, since signals that keep coming would hold up
    /// every deadline. But it has collected no events, and SIGCONT interrupts it long after a stop:
    /// the second call collects the bytes that arrived before a deadline passed.
    fn epoll_wait(&mut self, mut timeout: Option<Duration>) -> io::Result<()> {
        loop {
            match self.poll.poll(&mut self.events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    timeout = Some(Duration::ZERO);
                }
                result => return result,
            }
        }
    }
}

fn readiness(event: &Event) -> Readiness {
    Readiness {
        readable: event.is_readable() || event.is_error(),
        writable: event.is_writable(),
        reads_to_end: event.is_read_closed() || event.is_error() || event.is_priority(),
    }
}

/// Non-blocking sockets, registered with the epoll instance of a [`Reactor`].
#[derive(Debug)]
pub(crate) struct SocketDriver {
    registry: Registry,
    listeners: Vec<Listener>,
    /// Those of all workers, in their order. The worker's own is among them: closing a waker would
    /// discard its edge, and commands posted before the last handle is dropped must be carried out.
    wakers: Vec<Arc<Waker>>,
}

impl SocketDriver {
    /// Sets the wakers of all workers of the server, in their order.
    pub(crate) fn set_wakers(&mut self, wakers: Vec<Arc<Waker>>) {
        self.wakers = wakers;
    }
}

impl Driver for SocketDriver {
    type Stream = Socket;

    fn accept(&mut self, listener: u32) -> io::Result<(Socket, Address)> {
        let (socket, peer) = self.listeners[listener as usize].accept()?;
        Ok((Socket::new(socket), address_of(&peer)))
    }

    fn is_distributed(&self, listener: u32) -> bool {
        self.listeners[listener as usize].is_distributed()
    }

    fn tls(&self, listener: u32) -> Option<TlsConfig> {
        self.listeners[listener as usize].tls().cloned()
    }

    fn register(&mut self, stream: &mut Socket, token: Token) -> io::Result<()> {
        // Both directions at once, so that backpressure needs no change of the registration.
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        self.registry.register(&mut SourceFd(&stream.as_raw_fd()), token.into(), interest)
    }

    fn wake(&self, worker: u32) {
        // It fails only if the worker has ended.
        let _ = self.wakers[worker as usize].wake();
    }

    fn listeners(&self) -> u32 {
        self.listeners.len() as u32
    }

    fn stop_listening(&mut self) {
        self.listeners.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_never_ends_early() {
        // epoll_wait(2) counts whole milliseconds. A wait that was rounded down would end before its
        // deadline, and the worker would spin until then.
        for busy_poll in [0, 200, 5000].map(Duration::from_micros) {
            let (mut reactor, _driver, _waker) =
                Reactor::new(Vec::new(), busy_poll).expect("descriptors are free");
            for wait in [1, 300, 999, 1000, 1001, 1500, 2999].map(Duration::from_micros) {
                let since = Instant::now();
                reactor.poll(Some(wait)).expect("the descriptor is valid");
                assert!(since.elapsed() >= wait, "{wait:?} with {busy_poll:?} of polling");
            }
        }
    }
}
