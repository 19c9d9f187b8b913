//! The kernel's side of a worker: epoll, the clock, the sockets. No decision is made here.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Waker};
use socket2::SockRef;

use super::driver::Driver;
use super::slots::Token;
use super::tcp_info;
use super::worker::{READY_PER_TURN, Worker};
use crate::conn::transport::{Readiness, SendProgress, Transport};
use crate::connection_info::{Address, Endpoint};
use crate::handler::Handler;

/// An epoll instance, and room for what it reports.
#[derive(Debug)]
pub(crate) struct Reactor {
    poll: Poll,
    events: Events,
    busy_poll: Duration,
}

impl Reactor {
    /// An epoll instance with `listeners` registered; the driver for its worker. It polls for
    /// `busy_poll` before it waits.
    pub(crate) fn new(
        mut listeners: Vec<TcpListener>,
        busy_poll: Duration,
    ) -> io::Result<(Self, TcpDriver, Waker)> {
        let poll = Poll::new()?;
        for (index, listener) in (0..).zip(&mut listeners) {
            poll.registry().register(
                listener,
                Token::listener(index).into(),
                Interest::READABLE,
            )?;
        }
        let waker = Waker::new(poll.registry(), Token::WAKER.into())?;
        let driver = TcpDriver { registry: poll.registry().try_clone()?, listeners };
        let events = Events::with_capacity(READY_PER_TURN);
        Ok((Self { poll, events, busy_poll }, driver, waker))
    }

    /// Gives `worker` its turns until it is done.
    ///
    /// # Errors
    ///
    /// As epoll_wait(2), which for a valid descriptor is never.
    pub(crate) fn run<H: Handler>(&mut self, worker: &mut Worker<TcpDriver, H>) -> io::Result<()> {
        while !worker.is_done() {
            self.poll(worker.wait(Instant::now()))?;
            let ready = self.events.iter().map(|event| (event.token().into(), readiness(event)));
            worker.turn(ready, Instant::now());
        }
        Ok(())
    }

    /// Collects readiness events; waits for the first of them for at most `wait`.
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

impl Endpoint for TcpStream {
    fn local_address(&self) -> io::Result<Address> {
        self.local_addr().map(Address::Tcp)
    }
}

impl Transport for TcpStream {
    fn send_progress(&self) -> io::Result<SendProgress> {
        tcp_info::send_progress(self)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    /// The standard library's `write` does not raise SIGPIPE, but its `write_vectored` does, and
    /// ends a process that does not ignore the signal: not every program is one of Rust's.
    fn send_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        SockRef::from(&*self).send_vectored_with_flags(buffers, libc::MSG_NOSIGNAL)
    }
}

/// The kernel's sockets.
#[derive(Debug)]
pub(crate) struct TcpDriver {
    registry: Registry,
    listeners: Vec<TcpListener>,
}

impl Driver for TcpDriver {
    type Stream = TcpStream;

    fn accept(&mut self, listener: u32) -> io::Result<(TcpStream, Address)> {
        let (stream, peer) = self.listeners[listener as usize].accept()?;
        Ok((stream, Address::Tcp(peer)))
    }

    fn register(&mut self, stream: &mut TcpStream, token: Token) -> io::Result<()> {
        // Both directions, once: nothing is ever registered again, under backpressure neither.
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        self.registry.register(stream, token.into(), interest)
    }

    fn listeners(&self) -> u32 {
        self.listeners.len() as u32
    }

    fn stop_listening(&mut self) {
        self.listeners.clear();
    }
}
