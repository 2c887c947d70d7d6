//! A ClientHello that is read for its server name alone: the same in one piece and in many, decided once, and never more than is read of one.

use clingfish::proxy::opening::{HelloProgress, HelloReader, MAX_HELLO};

/// Sizes of pieces, the last one as large as a read is.
const PIECES: [usize; 4] = [1, 5, 64, 2048];

/// How a connection's first bytes end.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Incomplete,
    Complete(Option<String>),
    Refused,
}

/// The first byte tells how often the others are repeated, so that floods are found, too.
pub fn run(data: &[u8]) {
    let Some((repeat, bytes)) = data.split_first() else { return };
    let bytes = bytes.repeat(1 + usize::from(*repeat >> 4));
    let (expected, _) = read(&bytes, bytes.len().max(1));
    if let End::Complete(Some(name)) = &expected {
        assert!(!name.is_empty() && name.len() < 256, "{name:?}");
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()), "{name:?}");
    }
    for piece in PIECES {
        let (end, taken) = read(&bytes, piece);
        assert_eq!(end, expected, "in pieces of {piece}");
        assert!(taken <= MAX_HELLO + piece, "{taken} bytes were taken");
        assert!(end != End::Incomplete || taken <= MAX_HELLO, "{taken} bytes, and more are waited for");
    }
}

/// Hands the bytes over in pieces; how that ends, and after how many bytes.
fn read(bytes: &[u8], piece: usize) -> (End, usize) {
    let (mut reader, mut taken) = (HelloReader::default(), 0);
    for news in bytes.chunks(piece) {
        taken += news.len();
        match reader.take(news) {
            Ok(HelloProgress::Incomplete) => {}
            Ok(HelloProgress::Complete(name)) => return (End::Complete(name.map(|name| name.to_string())), taken),
            Err(_) => return (End::Refused, taken),
        }
    }
    (End::Incomplete, taken)
}
