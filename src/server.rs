//! The front door: binds, starts the workers, and gives back a handle to them.

use std::any::Any;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{self, TrySendError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use mio::Waker;
use mio::net::{TcpListener, TcpStream as Stream};

use crate::config::{Config, ConfigError};
use crate::handler::Handler;
use crate::peer::PeerId;
use crate::protocol::{CloseCode, Message};
use crate::reactor::listener::{Sharing, bind, listen};
use crate::reactor::mailbox::{Command, Sender, mailbox};
use crate::reactor::poll::Reactor;
use crate::reactor::slots::Token;
use crate::reactor::worker::{Shared, Worker};
use crate::stats::{Counters, Stats};

/// The number of the next server of this process. It wraps after 2^32 servers; only then can an old
/// [`PeerId`] identify a connection of a new server.
static NEXT_SERVER: AtomicU32 = AtomicU32::new(0);

/// More workers than any machine has cores: what goes beyond is a mistake.
const WORKERS_MAX: usize = 4096;

/// A WebSocket server: start with [`Server::builder`].
#[derive(Debug)]
pub struct Server;

impl Server {
    /// A server without addresses yet, with a worker for each core and default settings.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            addresses: Vec::new(),
            workers: None,
            config: Config::default(),
            share_port: false,
        }
    }
}

/// Collects what a server needs before it can start.
#[derive(Clone, Debug)]
pub struct ServerBuilder {
    addresses: Vec<SocketAddr>,
    workers: Option<usize>,
    config: Config,
    share_port: bool,
}

impl ServerBuilder {
    /// Adds an address to listen on. Port 0 takes a free one, the same for all workers. An IPv6
    /// address serves IPv6 only: bind `0.0.0.0` beside `[::]` for both.
    #[must_use]
    pub fn bind(mut self, address: SocketAddr) -> Self {
        self.addresses.push(address);
        self
    }

    /// Sets the number of worker threads, at most 4096. Default: the cores that this process may
    /// use.
    #[must_use]
    pub const fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Sets limits and timeouts.
    #[must_use]
    pub const fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Lets this server join an address that another process listens on with SO_REUSEPORT, each
    /// getting a part of the connections. Default false: an address in use is an error. Another
    /// process of the same user that asks for it can join later in either case.
    #[must_use]
    pub const fn share_port(mut self, share_port: bool) -> Self {
        self.share_port = share_port;
        self
    }

    /// Binds every address and starts the workers, each with a handler that `handler` makes.
    /// Clients can connect as soon as this returns.
    ///
    /// A handler that needs the [`ServerHandle`] itself can share an `Arc<OnceLock<ServerHandle>>`
    /// with the caller, who sets it when this returns.
    ///
    /// # Errors
    ///
    /// Settings that do not make sense, an address that cannot be bound, a want of resources.
    /// Nothing runs then.
    pub fn start<H: Handler + Send>(
        self,
        mut handler: impl FnMut() -> H,
    ) -> Result<ServerHandle, StartError> {
        self.config.check().map_err(StartError::Config)?;
        if self.addresses.is_empty() {
            return Err(StartError::NoAddress);
        }
        let workers = count_workers(self.workers)?;
        let config = Arc::new(self.config);
        let (addresses, groups) = listen_all(&self.addresses, workers, self.share_port, &config)?;
        let connections = Arc::new(AtomicUsize::new(0));
        let number = NEXT_SERVER.fetch_add(1, Ordering::Relaxed);
        let mut members = Vec::new();
        let mut starts = Vec::new();
        for (index, listeners) in (0..).zip(groups) {
            let (mut reactor, net, waker) =
                Reactor::new(listeners, config.busy_poll).map_err(StartError::Worker)?;
            let waker = Arc::new(waker);
            let (sender, mailbox) = mailbox(config.mailbox_capacity);
            let counters = Arc::new(Counters::default());
            members.push(Member {
                sender,
                waker: Arc::clone(&waker),
                counters: Arc::clone(&counters),
            });
            let shared = Shared {
                config: Arc::clone(&config),
                counters,
                connections: Arc::clone(&connections),
                server: number,
                index,
                time_of_day: SystemTime::now,
            };
            let handler = handler();
            starts.push(move || {
                let mut worker = Worker::new(net, handler, shared, mailbox, Instant::now());
                let result = reactor.run(&mut worker);
                // Closing a waker discards its event. The worker keeps it open, so that commands
                // posted before the last handle is dropped are still carried out.
                drop(waker);
                result
            });
        }
        let tcp_nodelay = config.tcp_nodelay;
        let (report, ends) = channel();
        let mut handles = Vec::new();
        let spawned = starts.into_iter().enumerate().try_for_each(|(index, run)| {
            handles.push(spawn(index, report.clone(), run)?);
            Ok(())
        });
        // The channel closes when the last worker has ended.
        drop(report);
        let threads = Mutex::new(Threads { ends, handles });
        let inner = Arc::new(Inner { number, addresses, tcp_nodelay, members, threads });
        let handle = ServerHandle { inner };
        if let Err(error) = spawned {
            handle.shutdown(Duration::ZERO);
            // The caller gets the error that prevented the start, not those of the shutdown.
            while handle.join().is_err() {}
            return Err(StartError::Worker(error));
        }
        Ok(handle)
    }
}

/// The number of workers to start: the number asked for, or one for each core.
fn count_workers(asked: Option<usize>) -> Result<usize, StartError> {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match asked.unwrap_or_else(cores) {
        0 => Err(StartError::NoWorker),
        workers @ 1..=WORKERS_MAX => Ok(workers),
        _ => Err(StartError::TooManyWorkers),
    }
}

/// Starts a worker's thread, which reports how `run` ended, and logs a failure when it happens.
fn spawn(
    index: usize,
    report: mpsc::Sender<io::Result<()>>,
    run: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("ws-worker-{index}")).spawn(move || {
        // `run` is consumed here, and the worker's sockets are closed before the end is reported.
        let result = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(result) => result.map_err(|error| {
                io::Error::new(error.kind(), format!("worker {index} failed: {error}"))
            }),
            Err(payload) => {
                Err(io::Error::other(format!("worker {index} panicked: {}", panic_text(payload))))
            }
        };
        if let Err(error) = &result {
            log::error!("{error}; its connections are lost, and the other workers go on");
        }
        // Sending fails if every handle has been dropped: then nobody waits for the report.
        let _ = report.send(result);
    })
}

/// The message of a panic.
fn panic_text(payload: Box<dyn Any + Send>) -> String {
    let payload = match payload.downcast::<&str>() {
        Ok(text) => return (*text).to_owned(),
        Err(payload) => payload,
    };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => {
            // Dropping it could panic again.
            std::mem::forget(payload);
            "the panic message is not a string".to_owned()
        }
    }
}

/// Listeners on every address for every worker; all listen before any worker accepts, since a
/// socket that joins a SO_REUSEPORT group changes which socket a connection goes to.
fn listen_all(
    addresses: &[SocketAddr],
    workers: usize,
    share_port: bool,
    config: &Config,
) -> Result<(Vec<SocketAddr>, Vec<Vec<TcpListener>>), StartError> {
    let mut resolved = Vec::new();
    let mut groups: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for &asked in addresses {
        let failed = |source| StartError::Bind { address: asked, source };
        let mut address = asked;
        if !share_port {
            // Without the option this fails where SO_REUSEPORT would quietly share the address.
            drop(bind(asked, Sharing::Exclusive).map_err(failed)?);
        }
        for group in &mut groups {
            let socket = bind(address, Sharing::Shared).map_err(failed)?;
            if address.port() == 0 {
                let local = socket.local_addr().map_err(failed)?;
                address.set_port(local.as_socket().map_or(0, |local| local.port()));
            }
            group.push(listen(socket, config).map_err(failed)?);
        }
        resolved.push(address);
    }
    Ok((resolved, groups))
}

/// Why a server did not start; what the system says is the error's source.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The settings do not make sense.
    Config(ConfigError),
    /// No address was given to [`ServerBuilder::bind`].
    NoAddress,
    /// [`ServerBuilder::workers`] was given zero.
    NoWorker,
    /// [`ServerBuilder::workers`] was given more than 4096.
    TooManyWorkers,
    /// An address cannot be listened on.
    Bind {
        /// The address as it was given.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A worker's resources (epoll, thread) cannot be had.
    Worker(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::NoAddress => f.write_str("no address to listen on"),
            Self::NoWorker => f.write_str("a server needs at least one worker"),
            Self::TooManyWorkers => write!(f, "a server has at most {WORKERS_MAX} workers"),
            Self::Bind { address, .. } => write!(f, "cannot listen on {address}"),
            Self::Worker(_) => f.write_str("cannot start a worker"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::Worker(source) => Some(source),
            Self::Config(_) | Self::NoAddress | Self::NoWorker | Self::TooManyWorkers => None,
        }
    }
}

/// A running server, from any thread. Clones are handles to the same one; dropping them does not
/// stop it.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Differs from the number of every other server of the process.
    number: u32,
    addresses: Vec<SocketAddr>,
    tcp_nodelay: bool,
    members: Vec<Member>,
    threads: Mutex<Threads>,
}

/// The workers' threads.
#[derive(Debug)]
struct Threads {
    /// Receives the result of each worker when it ends.
    ends: mpsc::Receiver<io::Result<()>>,
    handles: Vec<JoinHandle<()>>,
}

/// A worker as other threads see it.
#[derive(Debug)]
struct Member {
    sender: Sender<Stream>,
    waker: Arc<Waker>,
    counters: Arc<Counters>,
}

impl Member {
    fn post(&self, command: Command<Stream>) -> Result<(), SendError> {
        match self.sender.post(command) {
            Ok(must_wake) => {
                if must_wake {
                    self.wake();
                }
                Ok(())
            }
            Err(TrySendError::Full(_)) => Err(SendError::MailboxFull),
            Err(TrySendError::Disconnected(_)) => Err(SendError::Stopped),
        }
    }

    fn wake(&self) {
        // It fails if the worker has ended, and then there is nobody to wake.
        let _ = self.waker.wake();
    }
}

impl ServerHandle {
    /// The addresses listened on, in the order of [`ServerBuilder::bind`], ports resolved.
    #[must_use]
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.inner.addresses
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.inner.members.len()
    }

    /// What the server has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::sum(self.inner.members.iter().map(|member| &*member.counters))
    }

    /// Sends a message to a connection, from any thread. Messages of one thread to one connection
    /// arrive in order. The call does not block.
    ///
    /// `Ok` means that the message is in the mailbox of the connection's worker. The worker sends it,
    /// unless a close frame has been sent or the connection has closed by then: it drops such
    /// messages and counts them in [`Stats::stale_sends`]. So the call still returns `Ok` while the
    /// server waits for the peer's close frame, although nothing is sent.
    ///
    /// A loop that sends to many connections outruns their worker: give
    /// [`Config::mailbox_capacity`] room for as many messages, or pause when the mailbox is full.
    ///
    /// # Errors
    ///
    /// The message is not sent:
    ///
    /// - [`SendError::Stale`] if the connection has closed, that is, from just before its call of
    ///   [`Handler::on_close`]; or if `peer` belongs to another server
    /// - [`SendError::MailboxFull`] if the worker's mailbox is full
    /// - [`SendError::Stopped`] if the worker has failed
    pub fn send<'m>(&self, peer: PeerId, message: impl Into<Message<'m>>) -> Result<(), SendError> {
        let (member, token) = self.find(peer)?;
        member.post(Command::Send(token, message.into().into()))
    }

    /// Starts the closing handshake of a connection, from any thread; of a longer reason the first
    /// 123 bytes. Has no effect if a close frame has been sent already.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn close(&self, peer: PeerId, code: CloseCode, reason: &str) -> Result<(), SendError> {
        let (member, token) = self.find(peer)?;
        member.post(Command::Close(token, code, reason.into()))
    }

    /// Hands a connection that was accepted elsewhere to worker number `worker` modulo their
    /// count; its handshake has not begun. It counts against [`Config::connections_max`], beyond
    /// which it is answered 503.
    ///
    /// # Errors
    ///
    /// The system's, about the socket; or a [`SendError`] inside an [`io::Error`], and then the
    /// connection is dropped.
    pub fn adopt(&self, worker: usize, stream: TcpStream) -> io::Result<()> {
        let address = stream.peer_addr()?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(self.inner.tcp_nodelay)?;
        let member = &self.inner.members[worker % self.inner.members.len()];
        member.post(Command::Adopt(Stream::from_std(stream), address)).map_err(io::Error::other)
    }

    /// Stops the server: no connection is accepted any more, every peer gets a close frame (1001),
    /// and what is left after `drain` is dropped. Returns at once; see [`join`](Self::join).
    ///
    /// As always, a peer has [`Config::close_timeout`] to answer its close frame: a longer drain
    /// wants a longer one.
    ///
    /// A later call can only bring the end nearer.
    pub fn shutdown(&self, drain: Duration) {
        // A drain beyond what the clock can count is as good as one of a century.
        let now = Instant::now();
        let deadline = now.checked_add(drain).unwrap_or(now + Duration::from_secs(100 << 25));
        for member in &self.inner.members {
            if member.sender.drain(deadline) {
                member.wake();
            }
        }
    }

    /// Waits until the server has stopped or a worker fails. Do not call it in a callback, which
    /// would wait for itself.
    ///
    /// # Errors
    ///
    /// The failure of a worker, as soon as it happens: epoll failed, or the worker panicked outside
    /// of the callbacks. The error contains the worker's number. The connections of that worker
    /// are lost; the other workers go on. Each failure is returned once: the next call waits for the
    /// next failure, or until the remaining workers have ended.
    pub fn join(&self) -> io::Result<()> {
        // Another caller waits for the lock meanwhile.
        let mut threads = self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner);
        while let Ok(result) = threads.ends.recv() {
            result?;
        }
        // All have reported, unless a logger panicked over the report.
        threads
            .handles
            .drain(..)
            .try_for_each(|thread| thread.join().map_err(|_| io::Error::other("a worker panicked")))
    }

    /// The worker of `peer`, if the connection is open.
    fn find(&self, peer: PeerId) -> Result<(&Member, Token), SendError> {
        if peer.server != self.inner.number {
            return Err(SendError::Stale);
        }
        let token = Token { index: peer.slot, generation: peer.generation };
        let member = self.inner.members.get(peer.worker as usize).ok_or(SendError::Stale)?;
        if member.sender.is_open(token) { Ok((member, token)) } else { Err(SendError::Stale) }
    }
}

/// Why something was not sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SendError {
    /// The connection has closed, or belongs to another server.
    Stale,
    /// The worker's mailbox is full; try later.
    MailboxFull,
    /// The worker has ended: the server has stopped, or the worker has failed.
    Stopped,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stale => "the connection has closed",
            Self::MailboxFull => "the worker's mailbox is full",
            Self::Stopped => "the server has stopped",
        })
    }
}

impl std::error::Error for SendError {}
