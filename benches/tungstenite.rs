//! tungstenite's parser on the inputs of the bench `session`, to be compared with it.
//!
//! The bytes of one read in, the bytes of one write out: a stream in memory returns the input of a
//! turn and then blocks, and replies are flushed once, as its users do. As there, the time includes
//! one copy of the input, and leaves out system calls.

mod frames;

use std::hint::black_box;
use std::io::{self, ErrorKind, Read, Write};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use frames::frame;
use tungstenite::WebSocket;
use tungstenite::protocol::Role;

/// The input of a turn that has not been read yet, and the length of the replies.
struct Turn<'a> {
    input: &'a [u8],
    replied: usize,
}

impl Read for Turn<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.input.is_empty() {
            true => Err(ErrorKind::WouldBlock.into()),
            false => self.input.read(buf),
        }
    }
}

impl Write for Turn<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.replied += black_box(buf).len();
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Handles one turn. Returns the length of the replies.
fn serve<'a>(socket: &mut WebSocket<Turn<'a>>, input: &'a [u8]) -> usize {
    *socket.get_mut() = Turn { input, replied: 0 };
    while let Ok(message) = socket.read() {
        socket.write(message).expect("memory takes every reply");
    }
    socket.flush().expect("memory takes every reply");
    socket.get_ref().replied
}

fn tungstenite(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tungstenite");
    for (kind, opcode) in [("text", 1), ("binary", 2)] {
        for (size, depth) in
            [(32, 1), (32, 32), (125, 32), (1024, 16), (16 << 10, 1), (64 << 10, 3)]
        {
            let input = frame(opcode, &frames::text("The quick brown fox. ", size)).repeat(depth);
            let turn = Turn { input: &input, replied: 0 };
            let mut socket = WebSocket::from_raw_socket(turn, Role::Server, None);
            // A reply is a client's frame without the mask.
            assert_eq!(serve(&mut socket, &input), input.len() - 4 * depth);
            group.throughput(Throughput::Elements(depth as u64));
            group
                .bench_function(BenchmarkId::new(kind, format!("{size} B x {depth}")), |bencher| {
                    bencher.iter(|| serve(&mut socket, &input))
                });
        }
    }
    group.finish();
}

criterion_group!(benches, tungstenite);
criterion_main!(benches);
