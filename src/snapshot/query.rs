//! The query of a request, as matches on parameters look at it.

use std::cell::OnceCell;

use hashbrown::{HashMap, hash_map::Entry};

/// Up to this many bytes a query is read from its beginning for each parameter: that is quicker than an index.
const SHORT: usize = 256;

/// A query, undecoded. A long one is taken apart once, when a match first asks for a parameter: hundreds of matches may ask.
#[derive(Debug)]
pub struct Query<'q> {
    text: &'q str,
    parameters: OnceCell<HashMap<&'q str, &'q str>>,
}

// === impl Query ===

impl<'q> Query<'q> {
    /// A query: what follows the first `?`.
    pub fn new(text: &'q str) -> Self {
        Self { text, parameters: OnceCell::new() }
    }

    /// The undecoded value of the first parameter with this name; empty without `=`. Names and values are compared as sent, without decoding
    /// `%41` or `+`, as Envoy does.
    pub fn value(&self, name: &str) -> Option<&'q str> {
        if self.text.len() <= SHORT {
            return query_value(self.text, name);
        }
        self.parameters.get_or_init(|| index(self.text)).get(name).copied()
    }
}

/// The undecoded value of the first parameter with this name; empty without `=`.
pub fn query_value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    // Envoy sees no parameter in an empty query, but an empty name between two `&`.
    if query.is_empty() {
        return None;
    }
    parameters(query).find_map(|(n, value)| (n == name).then_some(value))
}

fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
}

fn index(query: &str) -> HashMap<&str, &str> {
    let mut index = HashMap::new();
    for (name, value) in parameters(query) {
        // The first of a name counts.
        if let Entry::Vacant(vacant) = index.entry(name) {
            vacant.insert(value);
        }
    }
    index
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_parameter_of_a_name_counts() {
        assert_eq!(query_value("a&b=", "a"), Some(""));
        assert_eq!(query_value("", ""), None);
        assert_eq!(Query::new("").value(""), None);
        assert_eq!(Query::new("a=1&a=2").value("a"), Some("1"));
    }

    proptest! {
        #[test]
        fn long_queries_are_read_as_short_ones(query in "([ab]{0,2}(=[ab=]{0,2})?&){0,8}", name in "[ab]{0,2}") {
            let long = format!("{query}{}", "&x=1".repeat(SHORT));
            prop_assert_eq!(Query::new(&long).value(&name), query_value(&long, &name));
        }
    }
}
