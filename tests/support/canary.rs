//! A well-behaved client that measures how long it waits for its echoes while others attack.

use std::net::SocketAddr;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tungstenite::Message;

use super::client::connect;

/// Maximum delay of an echo while other clients attack, beyond stalls of the machine itself.
pub const WAIT_MAX: Duration = Duration::from_secs(1);

/// The pause between two messages, so that the canary itself uses little CPU time.
const PACE: Duration = Duration::from_millis(5);

const MESSAGE_BYTES: usize = 32;

/// A client on its own thread that sends a message, waits for the echo, and repeats.
#[derive(Debug)]
pub struct Canary {
    end: Sender<()>,
    thread: JoinHandle<Latencies>,
    metronome: Metronome,
}

#[derive(Debug)]
struct Latencies {
    echoes: usize,
    worst: Duration,
}

impl Canary {
    /// Connects and waits for the first echo.
    #[track_caller]
    pub fn start(address: SocketAddr) -> Self {
        let mut client = connect(address);
        let mut latencies = Latencies { echoes: 0, worst: Duration::ZERO };
        let mut echo = move |latencies: &mut Latencies| {
            let message = format!("{:<MESSAGE_BYTES$}", latencies.echoes);
            let start = Instant::now();
            client.send(Message::text(&*message)).expect("the server reads");
            assert_eq!(client.read().expect("an echo"), Message::text(message));
            latencies.echoes += 1;
            latencies.worst = latencies.worst.max(start.elapsed());
        };
        echo(&mut latencies);
        let (end, is_over) = channel();
        let thread = std::thread::spawn(move || {
            while is_over.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                echo(&mut latencies);
            }
            echo(&mut latencies);
            latencies
        });
        Self { end, thread, metronome: Metronome::start() }
    }

    /// Checks that every echo arrived, and that none was late.
    #[track_caller]
    pub fn finish(self) {
        self.end.send(()).expect("every echo arrived");
        let Latencies { echoes, worst } = self.thread.join().expect("every echo arrived");
        let late = self.metronome.finish();
        println!("{echoes} echoes, the slowest after {worst:?}; the machine stalled for {late:?}");
        let most = WAIT_MAX + late;
        assert!(worst <= most, "the canary waited {worst:?}, more than {most:?}");
    }
}

/// A thread that only wakes up at intervals. Its greatest delay is the longest stall of the
/// machine.
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

    /// The longest delay.
    fn finish(self) -> Duration {
        self.end.send(()).expect("the metronome runs");
        self.thread.join().expect("the metronome runs")
    }
}
