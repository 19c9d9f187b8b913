//! The memory that the workers hold: an allocator that counts allocations inside a turn.
//!
//! Each block carries in front of it whether it was counted, so that a message which another
//! thread made and the worker frees, or the other way round, is counted right. All of a simulation
//! is on one thread, and so are its counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The memory of the workers of this thread's simulation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    /// Bytes in blocks of less than [`LARGE_BYTES`].
    pub(crate) small: isize,
    /// Bytes in larger blocks: a worker keeps some for the next large message.
    pub(crate) large: isize,
}

/// A worker may keep an unused block from this size on.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;

thread_local! {
    static COUNTS: Cell<bool> = const { Cell::new(false) };
    static HELD: Cell<Held> = const { Cell::new(Held { small: 0, large: 0 }) };
}

/// Runs a part of a worker, whose allocations count.
pub(crate) fn inside<R>(act: impl FnOnce() -> R) -> R {
    with(true, act)
}

/// Runs a part of the simulation that a worker has called, whose allocations do not count.
pub(crate) fn outside<R>(act: impl FnOnce() -> R) -> R {
    with(false, act)
}

fn with<R>(counts: bool, act: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            COUNTS.set(self.0);
        }
    }
    let _restore = Restore(COUNTS.replace(counts));
    act()
}

/// The memory that is held now.
pub(crate) fn held() -> Held {
    HELD.get()
}

/// Begins to count from nothing: a simulation that failed may have left something behind.
pub(crate) fn forget() {
    HELD.set(Held::default());
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The layout with room for the mark in front, and where the block begins in it.
fn marked(layout: Layout) -> (Layout, usize) {
    let start = layout.align().max(16);
    let all = Layout::from_size_align(layout.size() + start, start);
    (all.expect("no test asks for half of all memory"), start)
}

fn count(layout: Layout, sign: isize) {
    let mut held = HELD.get();
    let class = if layout.size() < LARGE_BYTES { &mut held.small } else { &mut held.large };
    *class += sign * layout.size() as isize;
    HELD.set(held);
}

// SAFETY: every block is one of the system's allocator, a few bytes larger than asked for and
// aligned as asked for, and is given back with the layout that it was taken with. `realloc` is the
// default one, which calls these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (all, start) = marked(layout);
        // SAFETY: `all` is not empty.
        let pointer = unsafe { System.alloc(all) };
        if pointer.is_null() {
            return pointer;
        }
        let counts = COUNTS.get();
        if counts {
            count(layout, 1);
        }
        // SAFETY: the block has `start` bytes, at least 16, in front of what was asked for.
        unsafe {
            pointer.write(u8::from(counts));
            pointer.add(start)
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let (all, start) = marked(layout);
        // SAFETY: `alloc` made the block, and wrote the mark.
        unsafe {
            let pointer = pointer.sub(start);
            if pointer.read() != 0 {
                count(layout, -1);
            }
            System.dealloc(pointer, all);
        }
    }
}
