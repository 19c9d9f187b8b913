//! The settings of a server, and the start of its workers.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{self, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::cpus;
use super::error::{StartError, WORKERS_MAX};
use super::handle::{ServerHandle, WorkerRef, mark_worker_thread};
use super::listening::{Balance, ListenSettings, Place, Source, listen_all};
use super::sockets::Listener;
use crate::address_limits::AddressTable;
use crate::config::Config;
use crate::connection_info::Address;
use crate::handler::Handler;
use crate::reactor::context::WorkerContext;
use crate::reactor::links::Links;
use crate::reactor::mailbox::{Mailbox, mailbox};
use crate::reactor::poll::{Reactor, SocketDriver};
use crate::reactor::socket::Socket;
use crate::reactor::worker::Worker;
use crate::stats::Counters;
#[cfg(feature = "tls")]
use crate::tls::TlsConfig;

/// The number of the next server of this process. It wraps after 2^32 servers; only then can an old
/// [`PeerId`](crate::PeerId) identify a connection of a new server.
static NEXT_SERVER: AtomicU32 = AtomicU32::new(0);

/// A WebSocket server, configured and started with [`Server::builder`].
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Returns a builder with no address, one worker per core and default settings.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            sources: Vec::new(),
            workers: None,
            config: Config::default(),
            listen: ListenSettings::default(),
            pin_cpus: false,
        }
    }
}

/// The addresses and settings of a server that has not started.
#[derive(Clone, Debug)]
pub struct ServerBuilder {
    sources: Vec<Source>,
    workers: Option<usize>,
    config: Config,
    listen: ListenSettings,
    pin_cpus: bool,
}

impl ServerBuilder {
    /// Adds an address to listen on: a `SocketAddr`, a path, or an [`Address`].
    ///
    /// With port 0 the kernel chooses a free port, the same for all workers. An IPv6 address accepts
    /// IPv6 only: bind both `0.0.0.0` and `[::]` for both versions.
    ///
    /// The socket file that an ended process left at a path is replaced; any other file is an error.
    /// The file is removed when the server stops listening, unless another has taken its place. Of
    /// two servers that start on a path at the same moment, either may lose it to the other.
    #[must_use]
    pub fn bind(mut self, address: impl Into<Address>) -> Self {
        self.sources.push(Source { place: Place::Address(address.into()), tls: None });
        self
    }

    /// [`bind`](Self::bind) for connections with TLS, such as those of `wss://`.
    ///
    /// The handshakes of TLS and WebSocket together have [`Config::handshake_timeout`]. A client that
    /// sends a plain HTTP request gets 400. Above [`Config::connections_max`] there is no 503: the
    /// connection is closed.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn bind_tls(mut self, address: impl Into<Address>, tls: TlsConfig) -> Self {
        self.sources.push(Source { place: Place::Address(address.into()), tls: Some(tls) });
        self
    }

    /// Adds a listener that the program made. One worker accepts its connections, and hands each to
    /// the worker with the fewest. The server makes the socket non-blocking, applies
    /// [`Config::tcp_nodelay`] to it, and never removes the file of a Unix socket.
    ///
    /// A server without an address and a listener gets its connections from
    /// [`ServerHandle::adopt`].
    #[must_use]
    pub fn listener(mut self, listener: impl Into<Listener>) -> Self {
        let place = Place::Listener(Arc::new(listener.into()));
        self.sources.push(Source { place, tls: None });
        self
    }

    /// [`listener`](Self::listener) for connections with TLS: see [`bind_tls`](Self::bind_tls).
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn listener_tls(mut self, listener: impl Into<Listener>, tls: TlsConfig) -> Self {
        let place = Place::Listener(Arc::new(listener.into()));
        self.sources.push(Source { place, tls: Some(tls) });
        self
    }

    /// Sets the permissions of the files of Unix sockets, such as 0o660: a client needs the
    /// permission to write. Default: those that the umask leaves. Abstract sockets have none.
    #[must_use]
    pub const fn unix_mode(mut self, mode: u32) -> Self {
        self.listen.unix_mode = Some(mode);
        self
    }

    /// Sets the number of worker threads, from 1 to 4096. Default: the number of cores that this
    /// process may use.
    #[must_use]
    pub const fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Sets limits and timeouts.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Allows an address that another process already listens on with SO_REUSEPORT; the kernel then
    /// distributes the connections over both. Default: false, and an address in use is an error.
    /// With either setting another process of the same user can join later.
    #[must_use]
    pub const fn share_port(mut self, share_port: bool) -> Self {
        self.listen.share_port = share_port;
        self
    }

    /// Pins each worker to a CPU of those that this process may use: worker `n` of `m` CPUs to CPU
    /// `n % m`. Default: false, and the kernel moves workers between CPUs. It helps if the workers
    /// have the CPUs to themselves, and harms if other programs use them too.
    #[must_use]
    pub const fn pin_cpus(mut self, pin_cpus: bool) -> Self {
        self.pin_cpus = pin_cpus;
        self
    }

    /// Sets how the connections of TCP addresses are distributed over the workers. Those of Unix
    /// sockets and of listeners that the program made always go to the worker with the fewest.
    #[must_use]
    pub const fn balance(mut self, balance: Balance) -> Self {
        self.listen.balance = balance;
        self
    }

    /// Binds every address and starts the workers. Clients can connect as soon as this returns.
    ///
    /// `handler` creates the handler of each worker. Its arguments are the server's handle, for
    /// handlers that send to other connections, and the worker's number, counted from 0.
    ///
    /// # Errors
    ///
    /// A [`StartError`] for an invalid setting, an address that cannot be bound, or a lack of
    /// resources. No worker is running then.
    pub fn start<H: Handler + Send>(
        self,
        mut handler: impl FnMut(&ServerHandle, usize) -> H,
    ) -> Result<ServerHandle, StartError> {
        self.config.validate().map_err(StartError::Config)?;
        let workers = count_workers(self.workers)?;
        let config = Arc::new(self.config);
        let (addresses, groups) = listen_all(&self.sources, workers, self.listen, &config)?;
        let cpus =
            if self.pin_cpus { cpus::allowed().map_err(StartError::Worker)? } else { Vec::new() };
        let mut cpus = cpus.into_iter().cycle();
        let connections = Arc::new(AtomicUsize::new(0));
        let address_table = AddressTable::new(&config);
        let number = NEXT_SERVER.fetch_add(1, Ordering::Relaxed);
        let (senders, mailboxes): (Vec<_>, Vec<_>) =
            groups.iter().map(|_| mailbox(config.mailbox_bytes_max)).unzip();
        let mut starts = Vec::new();
        let mut wakers = Vec::new();
        for ((index, listeners), mailbox) in (0..).zip(groups).zip(mailboxes) {
            let context = WorkerContext {
                config: Arc::clone(&config),
                counters: Arc::new(Counters::default()),
                address_table: address_table.clone(),
                connections: Arc::clone(&connections),
                server: number,
                index,
                time_of_day: SystemTime::now,
            };
            let (reactor, driver, waker) =
                Reactor::new(listeners, config.busy_poll).map_err(StartError::Worker)?;
            let links = Links::new(index, &senders, config.mailbox_bytes_max);
            starts.push(Start { reactor, driver, mailbox, links, context, cpu: cpus.next() });
            wakers.push(waker);
        }
        for start in &mut starts {
            start.driver.set_wakers(wakers.clone());
        }
        let counters = starts.iter().map(|start| Arc::clone(&start.context.counters));
        let refs = senders.into_iter().zip(wakers).zip(counters);
        let refs = refs.map(|((sender, waker), counters)| WorkerRef { sender, waker, counters });
        let refs = refs.collect();
        let (report, ends) = channel();
        let server = ServerHandle::new(number, addresses, config.tcp_nodelay, refs, ends);
        // All handlers are created before any worker runs, so a panic in `handler` starts nothing.
        let starts =
            (0..).zip(starts).map(|(index, start)| (start, handler(&server, index))).collect();
        spawn_all(&server, starts, report).map_err(StartError::Worker)?;
        Ok(server)
    }
}

/// The parts of a worker that has not started, except its handler.
struct Start {
    reactor: Reactor,
    driver: SocketDriver,
    mailbox: Mailbox<Socket>,
    links: Links<Socket>,
    context: WorkerContext,
    /// The CPU that the worker is pinned to.
    cpu: Option<usize>,
}

impl Start {
    /// Runs the worker in this thread until it has been drained.
    fn run<H: Handler>(mut self, handler: H) -> io::Result<()> {
        let Self { driver, mailbox, links, context, cpu, .. } = self;
        mark_worker_thread();
        if let Some(cpu) = cpu {
            cpus::pin(cpu)?;
        }
        let mut worker = Worker::new(driver, handler, context, mailbox, links, Instant::now());
        self.reactor.run(&mut worker)
    }
}

/// Starts a thread for each worker. If that fails, stops the workers that run already.
fn spawn_all<H: Handler + Send>(
    server: &ServerHandle,
    starts: Vec<(Start, H)>,
    report: mpsc::Sender<io::Result<()>>,
) -> io::Result<()> {
    for (index, (start, handler)) in starts.into_iter().enumerate() {
        match spawn(index, report.clone(), move || start.run(handler)) {
            Ok(thread) => server.add_thread(thread),
            Err(error) => {
                // `join` returns when the last sender of the channel has been dropped.
                drop(report);
                server.shutdown(Duration::ZERO);
                // The caller gets the error that prevented the start, not those of the shutdown.
                while server.join().is_err() {}
                return Err(error);
            }
        }
    }
    Ok(())
}

/// The number of workers to start: `asked`, or the number of cores.
fn count_workers(asked: Option<usize>) -> Result<usize, StartError> {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match asked.unwrap_or_else(cores) {
        0 => Err(StartError::NoWorker),
        workers @ 1..=WORKERS_MAX => Ok(workers),
        _ => Err(StartError::TooManyWorkers),
    }
}

/// Starts a worker's thread. It reports the result of `run`, and logs a failure.
fn spawn(
    index: usize,
    report: mpsc::Sender<io::Result<()>>,
    run: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("ws-worker-{index}")).spawn(move || {
        // `catch_unwind` consumes `run`, so the worker's sockets are closed before the report.
        let result = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(result) => result.map_err(|error| {
                io::Error::new(error.kind(), format!("worker {index} failed: {error}"))
            }),
            Err(payload) => {
                Err(io::Error::other(format!("worker {index} panicked: {}", panic_text(payload))))
            }
        };
        if let Err(error) = &result {
            log::error!("{error}; its connections are lost; the other workers continue");
        }
        // Sending fails if every handle has been dropped, and then no caller waits for the report.
        let _ = report.send(result);
    })
}

/// The message of a panic, if it is a string.
fn panic_text(payload: Box<dyn Any + Send>) -> String {
    let payload = match payload.downcast::<&str>() {
        Ok(text) => return (*text).to_owned(),
        Err(payload) => payload,
    };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => {
            // The drop of an unknown type could panic again.
            std::mem::forget(payload);
            "the panic message is not a string".to_owned()
        }
    }
}
