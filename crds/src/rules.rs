//! CEL validation rules, as values of `x-kubernetes-validations`.
//!
//! In: a rule and the message that a user reads when it fails. Out: JSON for the schema.
//! Absent: evaluation, which is the API server's.

use kube::core::{Reason, Rule};
use serde_json::Value;

/// What a Kubernetes quantity of bytes looks like here: digits, then at most one unit.
const QUANTITY: &str = "^[0-9]{1,18}([KMGTPE]i|[kMGTPE]|[eE][0-9]{1,2})?$";

/// What a duration looks like.
const DURATION: &str = "^([0-9]+(ms|s|m|h))+$";

/// The JSON of several rules.
pub(crate) fn all<const N: usize>(rules: [Rule; N]) -> Value {
    rules
        .iter()
        .map(|rule| serde_json::to_value(rule).expect("a rule is strings and enums, always JSON"))
        .collect()
}

/// One rule with its message.
pub(crate) fn rule(rule: &str, message: &str) -> Rule {
    Rule::new(rule).message(message)
}

/// A rule that compares with the stored object: the change itself is what is refused.
pub(crate) fn transition(rule: &str, message: &str) -> Rule {
    Rule::new(rule).message(message).reason(Reason::FieldValueForbidden)
}

/// The optional `field` of an object may not change, appear or disappear.
pub(crate) fn fixed(field: &str, message: &str) -> Rule {
    transition(
        &format!("has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"),
        message,
    )
    .field_path(format!(".{field}"))
}

/// The quantity `field` is whole, and lies between `least` and `most`.
pub(crate) fn quantity(field: &str, least: &str, most: &str) -> Value {
    all([Rule::new(format!(
        "string(self).matches('{QUANTITY}') && quantity(string(self)).compareTo(quantity('{least}')) >= 0 \
         && quantity(string(self)).compareTo(quantity('{most}')) <= 0"
    ))
    .message(&*format!(
        "{field} must be a whole number of bytes from {least} to {most}, with a unit if you like: 65536, 64Ki, 10Gi"
    ))])
}

/// The duration `field` is well formed, and lies between `least` and `most`.
pub(crate) fn duration(field: &str, least: &str, most: &str) -> Value {
    all([Rule::new(format!(
        "self.matches('{DURATION}') && duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"
    ))
    .message(&*format!(
        "{field} must be a duration from {least} to {most}, written as numbers with units: 500ms, 30s, 1h30m"
    ))])
}

/// `larger` is at least `times` the duration `smaller`, both always set. As in [`duration_order`], malformed ones are
/// left to their own rules.
pub(crate) fn duration_ratio(larger: &str, times: usize, smaller: &str, message: &str) -> Rule {
    // CEL cannot multiply durations, but it can add them.
    let sum = vec![format!("duration(self.{smaller})"); times].join(" + ");
    Rule::new(format!(
        "!self.{smaller}.matches('{DURATION}') || !self.{larger}.matches('{DURATION}') || duration(self.{larger}) >= {sum}"
    ))
    .message(message)
    .field_path(format!(".{larger}"))
}

/// `smaller` is at most `larger`, both optional durations of one object. A malformed one is left
/// to the rule of its own field, so that a typing error gives one message and not two.
pub(crate) fn duration_order(smaller: &str, larger: &str, message: &str) -> Rule {
    Rule::new(format!(
        "!has(self.{smaller}) || !has(self.{larger}) || !self.{smaller}.matches('{DURATION}') \
         || !self.{larger}.matches('{DURATION}') || duration(self.{smaller}) <= duration(self.{larger})"
    ))
    .message(message)
    .field_path(format!(".{smaller}"))
}
