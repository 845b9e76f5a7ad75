//! The scenarios that come with the program.
//!
//! They are files like an operator's own, read by the same grammar. Layer: values only.

use super::grammar::{GrammarError, Scenario, Vocabulary};

/// Name and text of each.
pub const ALL: &[(&str, &str)] = &[
    ("planned", include_str!("builtin/planned.toml")),
    ("emergency", include_str!("builtin/emergency.toml")),
    ("switchback", include_str!("builtin/switchback.toml")),
];

/// The text of a scenario.
pub fn text(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The names, for people.
pub fn names() -> String {
    ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// A scenario by its name; `None` if there is none.
///
/// # Errors
/// [`GrammarError`] if its text cannot be used with this vocabulary.
pub fn scenario(name: &str, vocabulary: &dyn Vocabulary) -> Option<Result<Scenario, GrammarError>> {
    text(name).map(|text| Scenario::parse(name, text, vocabulary))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::deeds::Deeds;

    #[test]
    fn every_scenario_is_one_and_has_its_name() {
        for (name, text) in ALL {
            let scenario = Scenario::parse(name, text, &Deeds).unwrap();
            assert_eq!(scenario.name, *name);
            let decided: Vec<_> = scenario.steps().filter_map(|(_, step)| step.check.as_deref()).collect();
            for check in decided {
                assert!(scenario.required.iter().chain(&scenario.optional).any(|one| one == check), "{name}: {check}");
            }
        }
    }
}
