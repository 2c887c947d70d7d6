//! Options that Gloo puts on a whole Gateway or on one of its listeners (VirtualHostOption, ListenerOption, HttpListenerOption). None is
//! applied. Those that guard something must not be passed over: the listeners that they are for answer 500.

use std::collections::BTreeMap;

use crate::api::{GatewayOption, TargetRef};
use crate::base::{
    Kind, Message, ObjectName, ObjectRef,
    text::{quoted, word},
};
use crate::translate::{
    Options, Resources,
    gateway::{gateway_class, listener::CompiledListener},
    last_good,
};

use super::{fields::survey_gateway_option, findings::Findings};

/// How many guards a message names.
const MAX_GUARDS: usize = 3;

/// How many fields that are not applied a notice lists.
const MAX_FIELDS: usize = 8;

/// What an option says, as far as it matters here.
#[derive(Debug)]
pub(in crate::translate) struct CompiledGatewayOption {
    /// Gateways of its namespace, each with the name of the listener if it is only one.
    targets: Vec<Target>,
    /// Why its targets must not be served; empty: there is no reason.
    guards: Vec<Message>,
    /// What is said of the fields that are not applied.
    fields: Vec<Message>,
    /// What is wrong with its targetRefs.
    odd_targets: Vec<Message>,
}

/// What an option is for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    gateway: ObjectName,
    listener: Option<Box<str>>,
}

/// All that are there.
pub(in crate::translate) type GatewayOptions = BTreeMap<ObjectRef, CompiledGatewayOption>;

/// Compiles an option anew, or forgets it.
pub(in crate::translate) fn update(options: &mut GatewayOptions, object: &ObjectRef, resources: &Resources) {
    match resources.gateway_option(object) {
        Some(option) => drop(options.insert(object.clone(), compile(object, option, resources))),
        None => drop(options.remove(object)),
    }
}

fn compile(object: &ObjectRef, option: &GatewayOption, resources: &Resources) -> CompiledGatewayOption {
    let mut findings = Findings::default();
    let refused = survey_gateway_option(object.kind, &option.spec, &mut findings);
    let mut guards: Vec<Message> = refused.into_iter().map(|field| field.message.into()).collect();
    if let Some(refused) = resources.refused(object).filter(|refused| refused.outline) {
        guards.insert(0, format!("no version of it could be read: {}", refused.message).into());
    }
    let mut compiled = CompiledGatewayOption { targets: Vec::new(), guards, fields: findings.warnings, odd_targets: Vec::new() };
    let own = &object.name.namespace;
    for (index, target) in option.spec.target_refs.iter().flatten().enumerate() {
        match target_of(own, target) {
            Ok(target) => compiled.targets.push(target),
            Err(why) => compiled.odd_targets.push(format!("spec.targetRefs[{index}]: {why}").into()),
        }
    }
    if option.spec.target_refs.iter().flatten().next().is_none() {
        let guards = if compiled.guards.is_empty() { String::new() } else { format!(", though it guards: {}", compiled.guards_in_words()) };
        compiled.odd_targets.push(Message::of_status(format!(
            "has no spec.targetRefs, so it is for no Gateway of the Gateway API and has no effect{guards}; expected a Gateway of its namespace"
        )));
    }
    compiled
}

/// The Gateway that is meant: as in Gloo one of the option's own namespace, so that nobody closes the Gateways of others.
fn target_of(own: &str, target: &TargetRef) -> Result<Target, String> {
    if target.group != Kind::Gateway.group() || target.kind != Kind::Gateway.as_str() {
        let expected = format!("expected {}/{}", Kind::Gateway.group(), Kind::Gateway);
        return Err(format!("{}/{} has no such options; {expected}", word(&target.group), word(&target.kind)));
    }
    let foreign = target.namespace.as_deref().filter(|namespace| !namespace.is_empty() && *namespace != own);
    if let Some(namespace) = foreign {
        return Err(format!("namespace {} is not its own, so it has no effect there", word(namespace)));
    }
    let listener = target.section_name.as_deref().filter(|section| !section.is_empty());
    Ok(Target { gateway: ObjectName::new(own, target.name.as_str()), listener: listener.map(Into::into) })
}

/// Closes the listeners of a Gateway that are guarded by options which are not built.
pub(in crate::translate) fn close(gateway: &ObjectName, listeners: &mut [CompiledListener], options: &GatewayOptions) {
    let guarding = options.iter().filter(|(object, option)| object.name.namespace == gateway.namespace && !option.guards.is_empty());
    for (object, option) in guarding {
        for target in option.targets.iter().filter(|target| target.gateway == *gateway) {
            let meant = listeners.iter_mut().filter(|listener| target.means(&listener.shape.name));
            // The first one by kind and name is named: the others come to light when that is gone.
            for listener in meant.filter(|listener| listener.shape.refusal.is_none()) {
                listener.shape.refusal = Some(option.words(object));
            }
        }
    }
}

/// What is to be said of an option; nothing where it is for Gateways of other controllers only.
pub(in crate::translate) fn notices(
    object: &ObjectRef,
    option: &CompiledGatewayOption,
    resources: &Resources,
    options: &Options,
) -> Vec<String> {
    let mut notices: Vec<String> = option.odd_targets.iter().map(|why| format!("{object}: {why}")).collect();
    let mut is_ours = false;
    for target in &option.targets {
        let Some(gateway) = resources.gateways().get(&target.gateway) else {
            notices.push(format!("{object}: spec.targetRefs: there is no Gateway {}", target.gateway));
            continue;
        };
        let class = &*gateway.spec.gateway_class_name;
        let ours = match resources.gateway_class(class) {
            Some(class) => gateway_class::is_ours(class, options),
            None => options.assumed_classes.contains(class),
        };
        if let Some(listener) = target.listener.as_deref().filter(|_| ours)
            && !gateway.spec.listeners.iter().any(|one| one.name == *listener)
        {
            notices.push(format!("{object}: spec.targetRefs: Gateway {} has no listener named {}", target.gateway, quoted(listener)));
        }
        is_ours |= ours;
    }
    if is_ours && !option.fields.is_empty() {
        let more = if option.fields.len() > MAX_FIELDS { "; and more" } else { "" };
        let fields: Vec<&str> = option.fields.iter().take(MAX_FIELDS).map(Message::as_str).collect();
        notices.push(format!("{object}: {}{more}", fields.join("; ")));
    }
    if let Some(refused) = resources.refused(object).filter(|refused| refused.outline) {
        notices.push(format!(
            "{object}: {}, and listeners of the targetRefs that could be read answer 500",
            last_good::message(refused, None)
        ));
    }
    notices
}

// === impl Target ===

impl Target {
    fn means(&self, listener: &str) -> bool {
        self.listener.as_deref().is_none_or(|name| name == listener)
    }
}

// === impl CompiledGatewayOption ===

impl CompiledGatewayOption {
    /// The option and what of it guards something.
    fn words(&self, object: &ObjectRef) -> Message {
        Message::of_status(format!("{object}: {}", self.guards_in_words()))
    }

    fn guards_in_words(&self) -> String {
        let more = if self.guards.len() > MAX_GUARDS { "; and more" } else { "" };
        let guards: Vec<&str> = self.guards.iter().take(MAX_GUARDS).map(Message::as_str).collect();
        format!("{}{more}", guards.join("; "))
    }
}
