//! Tables of host indexes, as narrow as the number of hosts allows.

/// A fixed number of host indexes, one, two or four bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostIndexes {
    Byte(Box<[u8]>),
    Short(Box<[u16]>),
    Long(Box<[u32]>),
}

impl HostIndexes {
    /// `length` times host 0, with room for the indexes below `host_count`.
    pub(super) fn zeroed(length: usize, host_count: usize) -> Self {
        if host_count <= 1 << 8 {
            Self::Byte(vec![0; length].into())
        } else if host_count <= 1 << 16 {
            Self::Short(vec![0; length].into())
        } else {
            Self::Long(vec![0; length].into())
        }
    }

    /// The indexes in order, each below `host_count`.
    pub(super) fn collect(hosts: impl ExactSizeIterator<Item = u32>, host_count: usize) -> Self {
        let mut indexes = Self::zeroed(hosts.len(), host_count);
        for (position, host) in hosts.enumerate() {
            indexes.set(position, host);
        }
        indexes
    }

    /// Puts `host`, which is below the `host_count` of the construction, at a position of the table.
    // The width was chosen so that nothing is cut off.
    pub(super) fn set(&mut self, position: usize, host: u32) {
        match self {
            Self::Byte(table) => put(table, position, host as u8),
            Self::Short(table) => put(table, position, host as u16),
            Self::Long(table) => put(table, position, host),
        }
    }

    pub(super) fn get(&self, position: usize) -> Option<u32> {
        match self {
            Self::Byte(table) => table.get(position).map(|host| u32::from(*host)),
            Self::Short(table) => table.get(position).map(|host| u32::from(*host)),
            Self::Long(table) => table.get(position).copied(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Byte(table) => table.len(),
            Self::Short(table) => table.len(),
            Self::Long(table) => table.len(),
        }
    }
}

#[cfg(test)]
impl HostIndexes {
    /// What the table takes on the heap.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Byte(table) => size_of_val::<[u8]>(table),
            Self::Short(table) => size_of_val::<[u16]>(table),
            Self::Long(table) => size_of_val::<[u32]>(table),
        }
    }
}

fn put<T>(table: &mut [T], position: usize, host: T) {
    if let Some(slot) = table.get_mut(position) {
        *slot = host;
    }
}

#[cfg(test)]
mod tests {
    use super::HostIndexes;

    #[test]
    fn the_width_follows_the_number_of_hosts() {
        for host_count in [1, 255, 256, 257, 65_535, 65_536, 65_537, 70_000] {
            let last = host_count as u32 - 1;
            let indexes = HostIndexes::collect([0, last, last / 2].into_iter(), host_count);
            let read: Vec<_> = (0..4).map(|position| indexes.get(position)).collect();
            assert_eq!(read, [Some(0), Some(last), Some(last / 2), None], "{host_count} hosts");
            let width = match indexes {
                HostIndexes::Byte(_) => 1,
                HostIndexes::Short(_) => 2,
                HostIndexes::Long(_) => 4,
            };
            assert_eq!(
                width,
                if host_count <= 256 {
                    1
                } else if host_count <= 65_536 {
                    2
                } else {
                    4
                }
            );
        }
    }
}
