//! A session without sockets: the bytes of one read in, the bytes of one write out.
//!
//! Held constant: the work of a turn (a read of `depth` frames, all echoed). Left out: system calls
//! and the reactor. The time includes copying the input into the buffer, as a `recv` includes the
//! kernel's copy.

mod frames;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use frames::frame;
use ws_reactor::protocol::{Delivery, Event, HEADROOM_BYTES, Limits, Session, Workspace};

const LIMITS: Limits = Limits { message_bytes_max: 1 << 20, fragments_max: 1000 };

/// Handles one read. Returns the length of the replies.
fn serve(session: &mut Session, buf: &mut [u8], workspace: &mut Workspace) -> usize {
    let mut window = session.window(buf);
    while let Ok(Some(event)) = session.next_event(&mut window, &LIMITS, workspace) {
        if let Event::Message(received) = event {
            black_box(received.lend(&mut window));
            received.echo(&mut window, workspace);
        }
    }
    let len = workspace.out.len() + window.run().len();
    workspace.clear();
    len
}

fn session(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session");
    for (kind, opcode) in [("text", 1), ("binary", 2)] {
        for (size, depth) in
            [(32, 1), (32, 32), (125, 32), (1024, 16), (16 << 10, 1), (64 << 10, 3)]
        {
            let input = frame(opcode, &frames::text("The quick brown fox. ", size)).repeat(depth);
            let mut buf = vec![0; HEADROOM_BYTES + input.len()];
            let mut workspace = Workspace::default();
            let mut session = Session::new(Delivery::StreamedEcho);
            group.throughput(Throughput::Elements(depth as u64));
            group.bench_function(
                BenchmarkId::new(kind, format!("{size} B x {depth}")),
                |bencher| {
                    bencher.iter(|| {
                        buf[HEADROOM_BYTES..].copy_from_slice(&input);
                        serve(&mut session, &mut buf, &mut workspace)
                    });
                },
            );
        }
    }
    group.finish();
}

criterion_group!(benches, session);
criterion_main!(benches);
