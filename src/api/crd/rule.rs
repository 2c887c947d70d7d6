//! A rule of a CRD in the Common Expression Language.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use kube_cel::{
    KubeCelExt as _,
    cel::{Context, ExecutionError, FunctionContext, Program, Value as CelValue, extractors::This},
};
use regex::Regex;
use serde::{Deserialize, Deserializer, de::Error as _};

/// A condition that a value must meet.
///
/// Source: `ValidationRule` of apiextensions.k8s.io/v1.
#[derive(Clone, Debug)]
pub(super) struct Rule(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    program: Program,
    text: String,
    message: String,
}

/// A rule as CRDs have it.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(deny_unknown_fields)]
struct Source {
    rule: String,
    message: Option<String>,
}

thread_local! {
    /// The functions that Kubernetes gives to rules.
    static FUNCTIONS: Context<'static> = functions();
    /// What the rules' own patterns were compiled to: there are as many as the schemas have.
    static PATTERNS: RefCell<HashMap<Arc<String>, Regex>> = RefCell::default();
}

impl Rule {
    /// Messages of the rules that the value breaks. A rule that compares with the value before (`oldSelf`) is met.
    pub(super) fn broken<'a>(rules: &'a [Self], value: CelValue) -> impl Iterator<Item = String> + use<'a> {
        FUNCTIONS.with(|functions| {
            let mut context = functions.new_inner_scope();
            context.add_variable_from_value("self", value);
            let broken: Vec<_> = rules.iter().filter_map(|rule| rule.is_broken(&context)).collect();
            broken.into_iter()
        })
    }

    fn is_broken(&self, context: &Context<'_>) -> Option<String> {
        let Compiled { program, text, message } = &*self.0;
        match program.execute(context) {
            Ok(CelValue::Bool(true)) => None,
            Ok(CelValue::Bool(false)) => Some(message.clone()),
            Ok(_) => Some(format!("the rule {text} gives no yes or no")),
            Err(error) => Some(format!("{message}; its rule cannot be evaluated: {error}")),
        }
    }

    fn compile(Source { rule: text, message }: &Source) -> Result<Self, String> {
        // A rule about changes has nothing to compare with.
        let effective = if text.contains("oldSelf") { "true" } else { text };
        let program = Program::compile(effective).map_err(|error| format!("the rule {text} cannot be compiled: {error}"))?;
        let message = message.clone().unwrap_or_else(|| format!("breaks the rule {text}"));
        Ok(Self(Arc::new(Compiled { program, text: text.clone(), message })))
    }
}

impl<'de> Deserialize<'de> for Rule {
    /// Compiled once for all the fields that have the same one.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        static COMPILED: LazyLock<Mutex<BTreeMap<Source, Rule>>> = LazyLock::new(Mutex::default);
        let source = Source::deserialize(deserializer)?;
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = compiled.get(&source) {
            return Ok(known.clone());
        }
        let new = Self::compile(&source).map_err(D::Error::custom)?;
        compiled.insert(source, new.clone());
        Ok(new)
    }
}

fn functions() -> Context<'static> {
    let mut context = Context::default().with_all();
    context.add_function("matches", matches);
    context
}

/// `matches` of CEL, which would compile its pattern at each call.
fn matches(context: &FunctionContext<'_, '_>, This(text): This<Arc<String>>, pattern: Arc<String>) -> Result<bool, ExecutionError> {
    PATTERNS.with_borrow_mut(|patterns| {
        if let Some(compiled) = patterns.get(&pattern) {
            return Ok(compiled.is_match(&text));
        }
        let compiled = Regex::new(&pattern).map_err(|error| context.error(format!("{pattern} is no regular expression: {error}")))?;
        let found = compiled.is_match(&text);
        patterns.insert(pattern, compiled);
        Ok(found)
    })
}
