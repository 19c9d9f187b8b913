//! Memory of large messages, kept for later messages.

/// Memory of at least this size is worth keeping: the kernel maps new memory of that size page by
/// page, which takes longer than copying the message. The replies to one peer's small messages need
/// less.
pub(super) const SPARE_BYTES_MIN: usize = 384 * 1024;

/// Total capacity of the spares: four messages of the default limit.
const SPARES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Spare memory, at most 4 MiB.
#[derive(Debug, Default)]
pub(super) struct Pool {
    spares: Vec<Vec<u8>>,
}

impl Pool {
    /// Keeps memory that is no longer needed, if it is large and the pool is not full. Its bytes
    /// are not cleared: that would cost a pass over them.
    pub(super) fn recycle(&mut self, memory: Vec<u8>) {
        let bytes: usize = self.spares.iter().map(Vec::capacity).sum();
        let is_large = memory.capacity() >= SPARE_BYTES_MIN;
        if is_large && bytes + memory.capacity() <= SPARES_BYTES_MAX {
            self.spares.push(memory);
        }
    }

    /// Takes a spare for `len` bytes, still filled with stale bytes, or an empty vector if none
    /// fits. Its capacity is at most a quarter more than `len`, and at most `most`.
    pub(super) fn take_spare(&mut self, len: usize, most: usize) -> Vec<u8> {
        let most = most.min(len.saturating_add(len / 4));
        let fits = |memory: &Vec<u8>| (len..=most).contains(&memory.capacity());
        match self.spares.iter().position(fits) {
            Some(index) => self.spares.swap_remove(index),
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spare_is_found_by_its_size() {
        let mut pool = Pool::default();
        pool.recycle(vec![7; SPARE_BYTES_MIN]);
        assert!(pool.take_spare(SPARE_BYTES_MIN / 4, usize::MAX).is_empty(), "far too large");
        assert!(pool.take_spare(SPARE_BYTES_MIN * 4, usize::MAX).is_empty(), "too small");
        assert!(pool.take_spare(SPARE_BYTES_MIN, SPARE_BYTES_MIN - 1).is_empty(), "above `most`");
        assert_eq!(pool.take_spare(SPARE_BYTES_MIN, usize::MAX), [7; SPARE_BYTES_MIN]);
        assert!(pool.take_spare(SPARE_BYTES_MIN, usize::MAX).is_empty(), "taken before");
    }

    #[test]
    fn spares_are_bounded() {
        let mut pool = Pool::default();
        for _ in 0..10 {
            pool.recycle(Vec::with_capacity(SPARES_BYTES_MAX / 4));
            pool.recycle(Vec::with_capacity(SPARE_BYTES_MIN - 1));
        }
        assert_eq!(pool.spares.iter().map(Vec::capacity).sum::<usize>(), SPARES_BYTES_MAX);
    }
}
