//! `allowedRoutes.namespaces` and `allowedListeners.namespaces`: from which namespaces a listener takes routes, and a Gateway ListenerSets.

use std::collections::BTreeMap;

use gateway_api::experimental::gateways::{
    GatewayAllowedListenersNamespaces, GatewayAllowedListenersNamespacesFrom as SetsFrom,
    GatewayListenersAllowedRoutesNamespaces as Namespaces, GatewayListenersAllowedRoutesNamespacesFrom as From,
};

use crate::base::text::word;
use crate::translate::Resources;

/// Label that the API server puts on every Namespace, with its name as value.
const METADATA_NAME: &str = "kubernetes.io/metadata.name";

/// From which namespaces routes are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) enum NamespacePolicy {
    /// The Gateway's own.
    Same,
    /// Any.
    All,
    /// Those whose labels satisfy all requirements.
    Selector(Vec<Requirement>),
    /// None, as the default for ListenerSets and where what was asked for cannot be read.
    Nowhere,
}

/// A requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

impl NamespacePolicy {
    /// Reads the policy; absent means `Same`.
    ///
    /// # Errors
    /// Words that name the field and what was expected.
    pub(in crate::translate) fn compile(namespaces: Option<&Namespaces>) -> Result<Self, String> {
        let Some(namespaces) = namespaces else { return Ok(Self::Same) };
        match namespaces.from {
            None | Some(From::Same) => Ok(Self::Same),
            Some(From::All) => Ok(Self::All),
            Some(From::Selector) => match &namespaces.selector {
                Some(selector) => {
                    let expressions = selector.match_expressions.iter().flatten();
                    let expressions =
                        expressions.map(|one| (one.key.as_str(), one.operator.as_str(), one.values.clone().unwrap_or_default()));
                    requirements("allowedRoutes.namespaces.selector", selector.match_labels.as_ref(), expressions).map(Self::Selector)
                }
                None => Err("allowedRoutes.namespaces.selector: expected a label selector, since from is Selector".to_owned()),
            },
        }
    }

    /// Reads `allowedListeners.namespaces` of a Gateway; absent means none.
    ///
    /// # Errors
    /// Words that name the field and what was expected.
    pub(super) fn of_listener_sets(namespaces: Option<&GatewayAllowedListenersNamespaces>) -> Result<Self, String> {
        let Some(namespaces) = namespaces else { return Ok(Self::Nowhere) };
        match namespaces.from {
            None | Some(SetsFrom::None) => Ok(Self::Nowhere),
            Some(SetsFrom::Same) => Ok(Self::Same),
            Some(SetsFrom::All) => Ok(Self::All),
            Some(SetsFrom::Selector) => {
                let field = "allowedListeners.namespaces.selector";
                let selector =
                    namespaces.selector.as_ref().ok_or_else(|| format!("{field}: expected a label selector, since from is Selector"))?;
                let expressions = selector.match_expressions.iter().flatten();
                let expressions = expressions.map(|one| (one.key.as_str(), one.operator.as_str(), one.values.clone().unwrap_or_default()));
                requirements(field, selector.match_labels.as_ref(), expressions).map(Self::Selector)
            }
        }
    }

    /// Whether a route of `namespace` is taken by a Gateway of `own`.
    pub(in crate::translate) fn allows(&self, own: &str, namespace: &str, resources: &Resources) -> bool {
        match self {
            Self::Same => own == namespace,
            Self::All => true,
            Self::Nowhere => false,
            Self::Selector(requirements) => {
                let labels = resources.namespace(namespace).and_then(|object| object.metadata.labels.as_ref());
                requirements.iter().all(|requirement| requirement.holds(namespace, labels))
            }
        }
    }

    /// Whether the labels of a Namespace decide.
    pub(in crate::translate) fn reads_labels(&self) -> bool {
        matches!(self, Self::Selector(_))
    }
}

impl Requirement {
    fn holds(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        let labelled = labels.and_then(|labels| labels.get(&self.key)).map(String::as_str);
        let value = if self.key == METADATA_NAME { Some(namespace) } else { labelled };
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.iter().any(|candidate| candidate == value)),
            Operator::NotIn(values) => value.is_none_or(|value| values.iter().all(|candidate| candidate != value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// The requirements of a label selector, whatever the generated type is called. An expression: key, operator, values.
fn requirements<'a>(
    field: &str,
    labels: Option<&BTreeMap<String, String>>,
    expressions: impl Iterator<Item = (&'a str, &'a str, Vec<String>)>,
) -> Result<Vec<Requirement>, String> {
    let labels = labels.into_iter().flatten();
    let mut all: Vec<_> =
        labels.map(|(key, value)| Requirement { key: key.clone(), operator: Operator::In(vec![value.clone()]) }).collect();
    for (key, name, values) in expressions {
        all.push(Requirement { key: key.to_owned(), operator: operator(field, key, name, values)? });
    }
    Ok(all)
}

fn operator(field: &str, key: &str, name: &str, values: Vec<String>) -> Result<Operator, String> {
    let field = format!("{field}.matchExpressions");
    match (name, values.is_empty()) {
        ("In", false) => Ok(Operator::In(values)),
        ("NotIn", false) => Ok(Operator::NotIn(values)),
        ("Exists", true) => Ok(Operator::Exists),
        ("DoesNotExist", true) => Ok(Operator::DoesNotExist),
        ("In" | "NotIn", true) => Err(format!("{field}: operator {name} on key {}: expected values", word(key))),
        ("Exists" | "DoesNotExist", false) => Err(format!("{field}: operator {name} on key {}: expected no values", word(key))),
        (other, _) => Err(format!("{field}: operator {}: expected In, NotIn, Exists or DoesNotExist", word(other))),
    }
}

#[cfg(test)]
mod tests {
    use gateway_api::experimental::gateways::{
        GatewayListenersAllowedRoutesNamespacesSelector as Selector,
        GatewayListenersAllowedRoutesNamespacesSelectorMatchExpressions as MatchExpression,
    };

    use super::*;
    use crate::translate::Resources;

    fn expression(operator: &str, values: &[&str]) -> MatchExpression {
        let values = (!values.is_empty()).then(|| values.iter().map(ToString::to_string).collect());
        MatchExpression { key: METADATA_NAME.to_owned(), operator: operator.to_owned(), values }
    }

    #[test]
    fn the_name_label_needs_no_namespace_object() {
        let table = [
            (expression("In", &["a"]), true),
            (expression("In", &["b"]), false),
            (expression("NotIn", &["b"]), true),
            (expression("NotIn", &["a"]), false),
            (expression("Exists", &[]), true),
            (expression("DoesNotExist", &[]), false),
        ];
        for (expression, expected) in table {
            let selector = Selector { match_expressions: Some(vec![expression.clone()]), match_labels: None };
            let policy = Namespaces { from: Some(From::Selector), selector: Some(selector) };
            let policy = NamespacePolicy::compile(Some(&policy)).unwrap();
            assert_eq!(policy.allows("gateway", "a", &Resources::default()), expected, "{expression:?}");
        }
    }

    #[test]
    fn a_selector_that_cannot_be_read_names_the_field() {
        for bad in [expression("In", &[]), expression("Exists", &["a"]), expression("Gt", &["1"])] {
            let selector = Selector { match_expressions: Some(vec![bad]), match_labels: None };
            let policy = Namespaces { from: Some(From::Selector), selector: Some(selector) };
            assert!(NamespacePolicy::compile(Some(&policy)).unwrap_err().contains("matchExpressions"));
        }
        let missing = Namespaces { from: Some(From::Selector), selector: None };
        assert!(NamespacePolicy::compile(Some(&missing)).unwrap_err().contains("selector"));
    }
}
