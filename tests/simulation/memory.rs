//! The memory that the workers hold: an allocator that counts the allocations of turns.
//!
//! A mark in front of each block records whether it was counted. So the counts stay correct if a
//! turn frees a block from outside, or the other way round. A simulation runs on one thread, and so
//! the counts are per thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The memory of the workers of this thread's simulation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    /// Bytes in blocks of less than [`LARGE_BYTES`].
    pub(crate) small: isize,
    /// Bytes in larger blocks. A worker keeps some for the next large message.
    pub(crate) large: isize,
}

/// Minimum size of an unused block that a worker may keep.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;

thread_local! {
    static COUNTS: Cell<bool> = const { Cell::new(false) };
    static HELD: Cell<Held> = const { Cell::new(Held { small: 0, large: 0 }) };
}

/// Runs code of a worker, whose allocations count.
pub(crate) fn inside<R>(act: impl FnOnce() -> R) -> R {
    with(true, act)
}

/// Runs code of the simulation inside a worker's call. Its allocations do not count.
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

/// The memory that the workers hold now.
pub(crate) fn held() -> Held {
    HELD.get()
}

/// Resets the counts, because a failed simulation may have left blocks behind.
pub(crate) fn forget() {
    HELD.set(Held::default());
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The layout with space for the mark in front, and the offset of the block in it.
fn marked(layout: Layout) -> (Layout, usize) {
    let start = layout.align().max(16);
    let all = Layout::from_size_align(layout.size() + start, start);
    (all.expect("no test allocates half of the address space"), start)
}

fn count(layout: Layout, sign: isize) {
    let mut held = HELD.get();
    let class = if layout.size() < LARGE_BYTES { &mut held.small } else { &mut held.large };
    *class += sign * layout.size() as isize;
    HELD.set(held);
}

// SAFETY: every block comes from the system's allocator, is larger than requested by `start` bytes
// and aligned as requested, and is freed with the layout of its allocation. `realloc` is the
// default implementation, which calls these two functions.
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
        // SAFETY: the block is `start` bytes, at least 16, larger than requested.
        unsafe {
            pointer.write(u8::from(counts));
            pointer.add(start)
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let (all, start) = marked(layout);
        // SAFETY: `alloc` allocated the block, and wrote the mark.
        unsafe {
            let pointer = pointer.sub(start);
            if pointer.read() != 0 {
                count(layout, -1);
            }
            System.dealloc(pointer, all);
        }
    }
}
