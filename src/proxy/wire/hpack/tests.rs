use proptest::prelude::*;

use super::*;

type Fields = Vec<(String, String)>;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, DecodingError> {
    let mut fields = Fields::new();
    let text = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
    decoder.decode(block, |name, value| fields.push((text(name), text(value)))).map(|()| fields)
}

fn fields(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// RFC 7541 appendices C.3 and C.4.
#[test]
fn requests_one_after_the_other_are_decoded() {
    let plain = ["8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", "8286 84be 5808 6e6f 2d63 6163 6865"];
    let coded = ["8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", "8286 84be 5886 a8eb 1064 9cbf"];
    for [first, second] in [plain, coded] {
        let mut decoder = Decoder::new();
        let begin = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
        assert_eq!(decoded(&mut decoder, &hex(first)).unwrap(), fields(&begin));
        let more = [begin.as_slice(), &[("cache-control", "no-cache")]].concat();
        assert_eq!(decoded(&mut decoder, &hex(second)).unwrap(), fields(&more));
    }
}

#[test]
fn malformed_blocks_are_refused() {
    for block in [
        "80",                   // number 0
        "be",                   // nothing is remembered yet
        "ff ff ff ff ff ff 00", // a number without an end
        "40 03 6162",           // a string that is cut off
        "40",                   // no string
        "82 3e",                // a size behind a field
        "3f e2 1f",             // a size above the largest
        "00 81 00 00",          // a coded name with a false padding
    ] {
        assert_eq!(decoded(&mut Decoder::new(), &hex(block)), Err(DecodingError), "{block}");
    }
    assert_eq!(decoded(&mut Decoder::new(), &hex("20 3f e1 1f 82")).unwrap(), fields(&[(":method", "GET")]), "sizes at the start");
}

#[test]
fn a_field_is_named_by_number_from_the_third_time_on() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let mut lengths = Vec::new();
    for _ in 0..3 {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        Encoder::status(&mut out, "200");
        encoder.field(&mut out, Field { name: b"content-type", value: b"text/plain", is_sensitive: false });
        encoder.field(&mut out, Field { name: b"set-cookie", value: b"a=b", is_sensitive: false });
        encoder.field(&mut out, Field { name: b"x-secret", value: b"s", is_sensitive: true });
        assert_eq!(
            decoded(&mut decoder, &out).unwrap(),
            fields(&[(":status", "200"), ("content-type", "text/plain"), ("set-cookie", "a=b"), ("x-secret", "s")])
        );
        assert!(out.ends_with(b"\x10\x08x-secret\x01s"), "one that is never to be remembered: {out:?}");
        lengths.push(out.len());
    }
    // The number takes two bytes of the first, and a literal has the length and the value behind it.
    assert_eq!(lengths, [lengths[0], lengths[0] - 1, lengths[0] - 12], "a number above 14 takes two bytes, one above 62 one");
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded_whatever_size_the_table_has(
        blocks in proptest::collection::vec(
            (proptest::option::of(0..6000_usize), proptest::collection::vec(("[a-d]{1,3}", "[x-z]{0,40}", any::<bool>()), 0..20)),
            1..20,
        )
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for (size, block) in blocks {
            if let Some(size) = size {
                encoder.resize(size / 2);
                encoder.resize(size);
            }
            let mut out = Vec::new();
            encoder.begin(&mut out);
            for (name, value, is_sensitive) in &block {
                encoder.field(&mut out, Field { name: name.as_bytes(), value: value.as_bytes(), is_sensitive: *is_sensitive });
            }
            let expected: Fields = block.into_iter().map(|(name, value, _)| (name, value)).collect();
            prop_assert_eq!(decoded(&mut decoder, &out), Ok(expected));
        }
    }

    #[test]
    fn anything_is_decoded_or_refused(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..5)) {
        let mut decoder = Decoder::new();
        for block in blocks {
            let _ = decoded(&mut decoder, &block);
        }
    }
}
