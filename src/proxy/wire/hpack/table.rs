//! The tables of fields that both ends know: one for all, and one of each direction of a connection (RFC 7541 section 2.3).

use std::collections::VecDeque;

/// What a field counts beside its bytes (RFC 7541 section 4.1).
const OVERHEAD: usize = 32;

/// Fields of a direction that may be named by number, the newest first.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    most: usize,
}

/// A field of a table.
#[derive(Debug)]
pub(super) struct Entry {
    /// The name, and behind it the value.
    text: Box<[u8]>,
    name: usize,
    /// Made of both by whoever looks for fields; else 0.
    digest: u32,
}

// === impl Table ===

impl Table {
    /// A table of so many bytes at most.
    pub(super) fn new(most: usize) -> Self {
        Self { entries: VecDeque::new(), size: 0, most }
    }

    /// The size that its entries may have together.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// The entry with this number, counted from the newest.
    pub(super) fn get(&self, number: usize) -> Option<&Entry> {
        self.entries.get(number)
    }

    /// The number of the entry that holds this field.
    pub(super) fn find(&self, name: &[u8], value: &[u8], digest: u32) -> Option<usize> {
        self.entries.iter().position(|entry| entry.digest == digest && entry.field() == (name, value))
    }

    /// From now on the entries may have this size together.
    pub(super) fn resize(&mut self, most: usize) {
        self.most = most;
        self.evict(0);
    }

    /// Adds a field; one that is larger than the table empties it.
    pub(super) fn insert(&mut self, entry: Entry) {
        let size = entry.size();
        self.evict(size);
        if size <= self.most {
            self.size += size;
            self.entries.push_front(entry);
        }
    }

    fn evict(&mut self, coming: usize) {
        while self.size + coming > self.most {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size();
        }
    }
}

// === impl Entry ===

impl Entry {
    pub(super) fn new(name: &[u8], value: &[u8], digest: u32) -> Self {
        Self { text: [name, value].concat().into(), name: name.len(), digest }
    }

    /// Name and value.
    pub(super) fn field(&self) -> (&[u8], &[u8]) {
        self.text.split_at_checked(self.name).unwrap_or_default()
    }

    fn size(&self) -> usize {
        self.text.len() + OVERHEAD
    }
}

/// The fields that everybody knows, from number 1 on (RFC 7541 appendix A).
pub(super) static FIELDS: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// The number of the name among those that everybody knows, for names that responses have.
pub(super) fn number_of_name(name: &[u8]) -> Option<usize> {
    Some(match name {
        b":status" => 8,
        b"accept-ranges" => 18,
        b"access-control-allow-origin" => 20,
        b"age" => 21,
        b"allow" => 22,
        b"cache-control" => 24,
        b"content-disposition" => 25,
        b"content-encoding" => 26,
        b"content-language" => 27,
        b"content-length" => 28,
        b"content-location" => 29,
        b"content-range" => 30,
        b"content-type" => 31,
        b"date" => 33,
        b"etag" => 34,
        b"expires" => 36,
        b"last-modified" => 44,
        b"link" => 45,
        b"location" => 46,
        b"proxy-authenticate" => 48,
        b"refresh" => 52,
        b"retry-after" => 53,
        b"server" => 54,
        b"set-cookie" => 55,
        b"strict-transport-security" => 56,
        b"vary" => 59,
        b"via" => 60,
        b"www-authenticate" => 61,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_names_are_those_of_the_fields() {
        let known = FIELDS.iter().filter_map(|(name, _)| Some((name, number_of_name(name)?)));
        for (name, number) in known {
            assert_eq!(FIELDS[number - 1].0, *name);
        }
        assert_eq!(number_of_name(b"x-other"), None);
    }

    #[test]
    fn the_oldest_give_way_and_one_that_is_too_large_empties_the_table() {
        let mut table = Table::new(100);
        table.insert(Entry::new(b"aa", b"1", 1));
        table.insert(Entry::new(b"bb", b"2", 2));
        assert_eq!((table.find(b"aa", b"1", 1), table.find(b"bb", b"2", 2)), (Some(1), Some(0)));
        assert_eq!(table.find(b"aa", b"2", 1), None);
        table.insert(Entry::new(b"cc", b"3", 3));
        assert_eq!((table.find(b"aa", b"1", 1), table.find(b"bb", b"2", 2)), (None, Some(1)));
        table.resize(40);
        assert_eq!((table.find(b"bb", b"2", 2), table.find(b"cc", b"3", 3)), (None, Some(0)));
        table.insert(Entry::new(&[b'd'; 9], b"", 4));
        assert!(table.get(0).is_none());
        assert_eq!(table.size, 0);
    }
}
