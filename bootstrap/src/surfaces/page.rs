//! `/`: one page for a person.
use super::state::State;

pub(super) fn html(state: &State) -> String {
    format!("<!doctype html><title>{}</title>", state.role)
}
