//! Header maps that are used again, since making and dropping one costs more than filling it.

use std::cell::RefCell;

use http::HeaderMap;

/// Maps that a worker keeps.
const KEPT: usize = 64;
/// A map that has grown beyond this many fields is not kept.
const KEPT_FIELDS: usize = 128;
/// Room for the usual message, and for what the gateway adds.
const USUAL_FIELDS: usize = 24;

thread_local! {
    static MAPS: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map with room for the usual message.
pub(in crate::proxy) fn headers() -> HeaderMap {
    MAPS.with_borrow_mut(Vec::pop).unwrap_or_else(|| HeaderMap::with_capacity(USUAL_FIELDS))
}

/// Keeps a map that nobody needs any more.
pub(in crate::proxy) fn give_back(mut headers: HeaderMap) {
    if headers.capacity() > KEPT_FIELDS || headers.capacity() < USUAL_FIELDS {
        return;
    }
    MAPS.with_borrow_mut(|maps| {
        if maps.len() < KEPT {
            headers.clear();
            maps.push(headers);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_comes_back_empty_and_with_its_room() {
        let mut map = headers();
        map.insert(http::header::HOST, http::HeaderValue::from_static("a"));
        let room = map.capacity();
        give_back(map);
        let again = headers();
        assert!(again.is_empty());
        assert_eq!(again.capacity(), room);
        give_back(HeaderMap::with_capacity(1000));
        assert_eq!(headers().capacity(), HeaderMap::<http::HeaderValue>::with_capacity(USUAL_FIELDS).capacity());
    }
}
