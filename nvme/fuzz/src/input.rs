//! The bytes that a game is played from. Every string of bytes is a game: where they end, the game does.

/// Reads decisions from bytes, one after the other; zeroes once there are none left.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// The decisions in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether there are none left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let count = N.min(self.rest.len());
        let (now, rest) = self.rest.split_at(count);
        array[..count].copy_from_slice(now);
        self.rest = rest;
        array
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// Any 16 bits.
    pub fn half(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Any 32 bits.
    pub fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// Any 64 bits.
    pub fn long(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `bound`, which is 1 to 256.
    pub fn below(&mut self, bound: u16) -> u16 {
        u16::from(self.byte()) % bound.max(1)
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u16) -> bool {
        self.below(times) == times - 1
    }

    /// One of `choices`, of which there is one at least.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// As many bytes, from a seed of the input.
    pub fn noise(&mut self, bytes: usize) -> Vec<u8> {
        let mut random = crate::random::Random::new(self.half().into());
        (0..bytes).map(|_| random.next() as u8).collect()
    }

    /// A number with few bits nearly always, and any number now and then.
    pub fn small(&mut self) -> u32 {
        match self.byte() {
            255 => self.word(),
            254 => u32::MAX,
            253 => self.half().into(),
            small => u32::from(small) % 16,
        }
    }
}
