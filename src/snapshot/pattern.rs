//! Regular expressions: compiled within bounds, with a price that is known before anything is compiled.

use regex::{Regex, RegexBuilder};
use regex_syntax::{
    ParserBuilder,
    hir::{Class, Hir, HirKind},
};

/// Most bytes of a compiled pattern. The default of 10 MiB lets one pattern burn 90 ms before it is refused.
const SIZE_LIMIT: usize = 256 << 10;

/// Most bytes of the lazy automaton of a pattern, per thread that uses it.
const DFA_SIZE_LIMIT: usize = 1 << 20;

/// Most levels of groups and repetitions within each other. The compiler goes down into them on its thread's stack, which is 2 MiB; the default of
/// 250 needs more where the code is not optimised.
const NEST_LIMIT: u32 = 100;

/// From this price on a pattern is not tried at all. Prices are estimates on the high side: what the size limit lets through is far below.
const PRICE_LIMIT: u64 = 16 * SIZE_LIMIT as u64;

/// Price of any pattern, and of one more state.
const BASE_PRICE: u64 = 256;
const STATE_PRICE: u64 = 32;

/// Where in a text a pattern is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extent {
    /// It is the whole text, as Envoy's `safe_regex`.
    Whole,
    /// Anywhere (Gloo's `regexRewrite`).
    Anywhere,
}

/// A compiled regular expression. All that use the same one share the memory that matching needs, so there should be one of each.
#[derive(Debug)]
pub struct Pattern {
    source: Box<str>,
    regex: Regex,
}

// === impl Pattern ===

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str()
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// About how many bytes the pattern takes when compiled, before it is: what compiling costs in time goes with it.
    ///
    /// # Errors
    /// It is no regular expression; one sentence for a status message.
    pub fn price(source: &str) -> Result<u64, String> {
        let parse = |unicode: bool| {
            let parsed = ParserBuilder::new().unicode(unicode).nest_limit(NEST_LIMIT).build().parse(source);
            parsed.map_err(|error| last_line(&error.to_string()))
        };
        let hir = parse(false).or_else(|_| parse(true))?;
        Ok(BASE_PRICE.saturating_add(states(&hir).saturating_mul(STATE_PRICE)))
    }

    /// Compiles a pattern.
    ///
    /// # Errors
    /// It is no regular expression, or too large; one sentence for a status message.
    pub fn compile(source: &str, extent: Extent) -> Result<Self, String> {
        // Parsed by itself first: `a)(b` would be valid between the anchors only.
        if Self::price(source)? > PRICE_LIMIT {
            return Err(too_large(SIZE_LIMIT));
        }
        let regex = match extent {
            Extent::Whole => build(&format!("^(?:{source})$"))?,
            Extent::Anywhere => build(source)?,
        };
        Ok(Self { source: source.into(), regex })
    }

    /// As written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Compiled, with both anchors where it has to be the whole text.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// Whether it is found in the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

fn build(pattern: &str) -> Result<Regex, String> {
    let build = |unicode: bool| {
        let mut builder = RegexBuilder::new(pattern);
        // The anchors add a group.
        builder.nest_limit(NEST_LIMIT + 2).size_limit(SIZE_LIMIT).dfa_size_limit(DFA_SIZE_LIMIT).unicode(unicode).build()
    };
    // Without Unicode `\w` and `\d` are ASCII, as in RE2, and a tenth of the size; patterns that could split a character need Unicode.
    build(false).or_else(|_| build(true)).map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => too_large(limit),
        other => last_line(&other.to_string()),
    })
}

fn too_large(limit: usize) -> String {
    format!("the compiled pattern is larger than {limit} bytes")
}

/// The parser's own sentence, without the pattern, which it repeats and points into.
fn last_line(error: &str) -> String {
    error.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
}

/// About how many states the automaton of an expression has.
fn states(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Class(Class::Bytes(class)) => class.ranges().len() as u64,
        // A range of characters is up to four sequences of bytes.
        HirKind::Class(Class::Unicode(class)) => 4 * class.ranges().len() as u64,
        HirKind::Repetition(repetition) => {
            let copies = repetition.max.unwrap_or(repetition.min).max(1);
            states(&repetition.sub).saturating_add(1).saturating_mul(u64::from(copies))
        }
        HirKind::Capture(capture) => states(&capture.sub).saturating_add(2),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().fold(1, |sum: u64, part| sum.saturating_add(states(part))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nests_too_deeply_is_refused_before_a_stack_overflows() {
        let nested = |levels: usize| [format!("{}a{}", "(".repeat(levels), ")".repeat(levels)), format!("a{}", "*".repeat(levels))];
        for extent in [Extent::Whole, Extent::Anywhere] {
            for pattern in nested(90) {
                assert!(Pattern::compile(&pattern, extent).is_ok(), "{pattern}");
            }
            for pattern in nested(1_000) {
                let refused = Pattern::compile(&pattern, extent).unwrap_err();
                assert!(refused.contains("nest"), "{refused}");
            }
        }
    }

    #[test]
    fn patterns_match_the_whole_text() {
        for (pattern, text, expected) in [
            ("a|ab", "ab", true),
            ("a|b", "ab", false),
            ("/v[0-9]+/.*", "/v2/x", true),
            ("/v", "/v2", false),
            ("(?i)/A", "/a", true),
            ("\\w{64}", &"a".repeat(64), true),
            ("[^/]{64}", &"a".repeat(64), true),
        ] {
            assert_eq!(Pattern::compile(pattern, Extent::Whole).unwrap().is_match(text), expected, "{pattern} {text}");
        }
        assert!(Pattern::compile("b", Extent::Anywhere).unwrap().is_match("abc"));
    }

    #[test]
    fn a_bad_pattern_is_refused_with_one_line() {
        for pattern in ["a)(b", "(", "[a", "\\w{500}{500}", "\\w{900}{900}", "\\p{L}{900}"] {
            for extent in [Extent::Whole, Extent::Anywhere] {
                let error = Pattern::compile(pattern, extent).unwrap_err();
                assert!(!error.is_empty() && !error.contains(['\n', '{']), "{error}");
            }
        }
    }

    #[test]
    fn the_price_grows_with_the_automaton() {
        let price = |pattern: &str| Pattern::price(pattern).unwrap();
        let prices = ["a", "/v[0-9]+/.*", "/(a|b|c)/[^/]{10}/x", "[a-z]{100}", "[a-z]{1000}", "([a-z]{100}){100}"].map(price);
        assert!(prices.is_sorted(), "{prices:?}");
        assert!(price("/v[0-9]+/.*") < 2048, "{}", price("/v[0-9]+/.*"));
        assert!(price("\\w{1000}{1000}{1000}") > PRICE_LIMIT);
        assert!(Pattern::price("(").is_err());
    }
}
