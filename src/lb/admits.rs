//! Which of the hashes that fall on a host the host takes.

use crate::lb::draw::next_random;

/// In how many parts a host's hashes are counted.
pub(super) const PARTS: u32 = 1 << 16;

/// Keeps the order in which hashes are admitted apart from everything else that is done with them.
const SALT: u64 = 0x61_64_6d_69_74_73_5f_31;

/// What a host takes of the hashes that the table gives it. The others go where the table without it gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Admits {
    /// All, as every host of Envoy's.
    #[default]
    All,
    /// So many of 65,536, always the same ones, and more of them when the number grows: a host that warms up. Where no host takes all,
    /// such a host does.
    Part(u16),
    /// None: an entry of the table without anybody behind it, such as a vacant slot.
    None,
    /// None, and it has no entry in the table: it gets requests without a key, and those that failed elsewhere. Where nobody else is there,
    /// it takes all. Policies without a hash take it for any other host.
    Keyless,
}

impl Admits {
    /// What it takes, as a part of 1.
    #[must_use]
    pub fn share(self) -> f64 {
        f64::from(self.parts()) / f64::from(PARTS)
    }

    /// Hashes taken, of [`PARTS`].
    pub(super) fn parts(self) -> u32 {
        match self {
            Self::All => PARTS,
            Self::Part(parts) => u32::from(parts),
            Self::None | Self::Keyless => 0,
        }
    }

    /// Whether a hash is taken.
    pub(super) fn takes(self, hash: u64) -> bool {
        match self {
            Self::All => true,
            Self::Part(parts) => point(hash) < u32::from(parts),
            Self::None | Self::Keyless => false,
        }
    }
}

/// Where a hash stands among all: below [`PARTS`], and independent of the entry that the hash falls on.
fn point(hash: u64) -> u32 {
    let mut state = hash ^ SALT;
    (next_random(&mut state) >> 48) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_the_hashes_and_grow() {
        let hashes = || {
            let mut state = 5;
            std::iter::repeat_with(move || next_random(&mut state)).take(65_536)
        };
        let mut before = 0;
        for parts in [0, 1, 6_554, 32_768, 65_535] {
            let taken = hashes().filter(|hash| Admits::Part(parts).takes(*hash)).count();
            assert!((taken as f64 - f64::from(parts)).abs() < 700.0, "{taken} of {parts}");
            assert!(taken >= before);
            before = taken;
            assert!(hashes().all(|hash| !Admits::Part(parts / 2).takes(hash) || Admits::Part(parts).takes(hash)));
        }
        assert!(hashes().all(|hash| Admits::All.takes(hash) && !Admits::None.takes(hash)));
    }
}
