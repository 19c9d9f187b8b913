//! A client that behaves, and sees how the server treats it while others do not.

use std::net::SocketAddr;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tungstenite::Message;

use super::client::connect;

/// No peer can make another wait for longer. What the machine itself was away is not counted.
pub const WAIT_MAX: Duration = Duration::from_secs(1);

/// Between two echoes: a peer like many, that uses next to nothing itself.
const PACE: Duration = Duration::from_millis(5);

const MESSAGE_BYTES: usize = 32;

/// A client on a thread of its own that gets echo after echo.
#[derive(Debug)]
pub struct Witness {
    end: Sender<()>,
    thread: JoinHandle<Testimony>,
    metronome: Metronome,
}

#[derive(Debug)]
struct Testimony {
    echoes: usize,
    worst: Duration,
}

impl Witness {
    /// A witness that has had an echo already.
    #[track_caller]
    pub fn start(address: SocketAddr) -> Self {
        let mut client = connect(address);
        let mut testimony = Testimony { echoes: 0, worst: Duration::ZERO };
        let mut echo = move |testimony: &mut Testimony| {
            let message = format!("{:<MESSAGE_BYTES$}", testimony.echoes);
            let start = Instant::now();
            client.send(Message::text(&*message)).expect("the server reads");
            assert_eq!(client.read().expect("an echo"), Message::text(message));
            testimony.echoes += 1;
            testimony.worst = testimony.worst.max(start.elapsed());
        };
        echo(&mut testimony);
        let (end, is_over) = channel();
        let thread = std::thread::spawn(move || {
            while is_over.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                echo(&mut testimony);
            }
            echo(&mut testimony);
            testimony
        });
        Self { end, thread, metronome: Metronome::start() }
    }

    /// Checks that every echo came, and none late.
    #[track_caller]
    pub fn finish(self) {
        self.end.send(()).expect("every echo came");
        let Testimony { echoes, worst } = self.thread.join().expect("every echo came");
        let late = self.metronome.finish();
        println!("{echoes} echoes, the slowest after {worst:?}; the machine was {late:?} late");
        let most = WAIT_MAX + late;
        assert!(worst <= most, "the witness waited {worst:?}, more than {most:?}");
    }
}

/// A thread that does nothing but wake up: how late it is tells for how long the machine was away.
#[derive(Debug)]
struct Metronome {
    end: Sender<()>,
    thread: JoinHandle<Duration>,
}

impl Metronome {
    fn start() -> Self {
        let (end, is_over) = channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut late = Duration::ZERO;
            let mut start = Instant::now();
            while is_over.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                late = late.max(start.elapsed() - PACE);
                start = Instant::now();
            }
            late
        });
        Self { end, thread }
    }

    /// The latest that it was.
    fn finish(self) -> Duration {
        self.end.send(()).expect("it beats on");
        self.thread.join().expect("it beats on")
    }
}
