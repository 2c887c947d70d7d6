//! The Huffman code of strings (RFC 7541 section 5.2 and appendix B).

/// Bits of each byte's code; the last is the end-of-string symbol. The code is canonical: by length, then by byte, the codes count upwards.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, //
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, //
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, //
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, //
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, //
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, //
    30,
];

/// The longest code.
const LONGEST: usize = 30;
/// Codes of up to so many bits are found with one look.
const SHORT: u32 = 8;
const END_OF_STRING: u16 = 256;

/// All codes of one length.
#[derive(Clone, Copy)]
struct Length {
    /// The first code, and the one behind the last, as the top bits of a word.
    first: u32,
    end: u64,
    /// Where their symbols begin among all, in the order of the codes.
    symbols_at: u16,
}

struct Code {
    /// By the next eight bits: the byte whose code they begin with, and its length; 0: a longer one.
    short: [(u8, u8); 1 << SHORT],
    lengths: [Length; LONGEST + 1],
    symbols: [u16; 257],
}

static CODE: Code = code();

#[allow(clippy::indexing_slicing, reason = "the compiler evaluates it")]
const fn code() -> Code {
    let mut made =
        Code { short: [(0, 0); 1 << SHORT], lengths: [Length { first: 0, end: 0, symbols_at: 0 }; LONGEST + 1], symbols: [0; 257] };
    let (mut next, mut count, mut length) = (0_u64, 0_usize, 1_usize);
    while length <= LONGEST {
        let shift = 32 - length;
        made.lengths[length].first = (next << shift) as u32;
        made.lengths[length].symbols_at = count as u16;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                made.symbols[count] = symbol as u16;
                if length <= SHORT as usize {
                    let from = (next << (SHORT as usize - length)) as usize;
                    let mut at = from;
                    while at < from + (1 << (SHORT as usize - length)) {
                        made.short[at] = (symbol as u8, length as u8);
                        at += 1;
                    }
                }
                count += 1;
                next += 1;
            }
            symbol += 1;
        }
        made.lengths[length].end = next << shift;
        next <<= 1;
        length += 1;
    }
    made
}

/// The string is not what the code makes of any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidCode;

/// Appends what the code stands for.
///
/// # Errors
/// It contains the end-of-string symbol, or ends in anything but up to seven bits of its beginning.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidCode> {
    // No code has less than five bits.
    out.reserve(coded.len() * 8 / 5 + 1);
    let (mut bits, mut held) = (0_u64, 0_u32);
    let mut rest = coded.iter();
    loop {
        while held <= 56 {
            let Some(byte) = rest.next() else { break };
            bits = bits << 8 | u64::from(*byte);
            held += 8;
        }
        if held == 0 {
            return Ok(());
        }
        // What is behind the end counts as ones: such is the padding.
        let window = ((bits << (64 - held)) | u64::MAX.checked_shr(held).unwrap_or(0)) >> 32;
        let (symbol, length) = match CODE.short.get((window >> (32 - SHORT)) as usize) {
            Some((symbol, length @ 1..)) => (u16::from(*symbol), u32::from(*length)),
            _ => long(window as u32),
        };
        if length > held {
            let all_ones = bits | u64::MAX.checked_shl(held).unwrap_or(0) == u64::MAX;
            return if held < 8 && all_ones { Ok(()) } else { Err(InvalidCode) };
        }
        held -= length;
        out.push(u8::try_from(symbol).map_err(|_end_of_string| InvalidCode)?);
    }
}

/// The symbol whose code, of more than eight bits, a word begins with, and the code's length.
fn long(window: u32) -> (u16, u32) {
    for (length, codes) in (0_u32..).zip(&CODE.lengths).skip(SHORT as usize + 1) {
        if u64::from(window) < codes.end {
            let nth = (window - codes.first) >> (32 - length);
            let symbol = CODE.symbols.get(usize::from(codes.symbols_at) + nth as usize);
            return (symbol.copied().unwrap_or(END_OF_STRING), length);
        }
    }
    (END_OF_STRING, LONGEST as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, InvalidCode> {
        let mut out = Vec::new();
        decode(coded, &mut out).map(|()| out)
    }

    /// The code of a symbol, found in the other direction.
    fn code_of(symbol: usize) -> (u64, u32) {
        let length = u32::from(LENGTHS[symbol]);
        let mut before: Vec<usize> = (0..257).collect();
        before.sort_by_key(|other| (LENGTHS[*other], *other));
        let (mut code, mut last) = (0_u64, u32::from(LENGTHS[before[0]]));
        for other in before {
            code <<= u32::from(LENGTHS[other]) - last;
            last = u32::from(LENGTHS[other]);
            if other == symbol {
                return (code, length);
            }
            code += 1;
        }
        unreachable!()
    }

    fn encoded(text: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for byte in text {
            let (code, length) = code_of(usize::from(*byte));
            bits.push_str(&format!("{code:0width$b}", width = length as usize));
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes().chunks(8).map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap()).collect()
    }

    #[test]
    fn the_examples_of_the_rfc_are_decoded() {
        let hex = |text: &str| -> Vec<u8> {
            text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
        };
        for (coded, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            (
                "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
        ] {
            assert_eq!(decoded(&hex(coded)).unwrap(), text.as_bytes(), "{text}");
        }
    }

    #[test]
    fn only_the_beginning_of_the_last_symbol_may_follow() {
        assert_eq!(decoded(&[]), Ok(Vec::new()));
        // "a" is 00011; three ones pad it.
        assert_eq!(decoded(&[0b0001_1111]), Ok(b"a".to_vec()));
        assert_eq!(decoded(&[0b0001_1110]), Err(InvalidCode), "padding of zeros");
        assert_eq!(decoded(&[0b0001_1111, 0xff]), Err(InvalidCode), "padding of more than seven bits");
        assert_eq!(decoded(&[0xff]), Err(InvalidCode), "nothing but padding");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), Err(InvalidCode), "the end of the string");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xfc, 0xff]), Err(InvalidCode));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decoded(&encoded(&text)), Ok(text));
        }

        #[test]
        fn anything_is_decoded_or_refused(coded in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(text) = decoded(&coded) {
                prop_assert_eq!(encoded(&text), coded);
            }
        }
    }
}
