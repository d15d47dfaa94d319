//! What is searched in CI and in long runs.

use super::{Scope, VICTIMS, Victim};

/// How much is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Size {
    /// Two minutes on one core.
    Small,
    /// Some ten minutes on one core.
    Full,
}

/// The searches of a size, with what each is.
pub fn scopes(size: Size) -> Vec<(String, Scope)> {
    let mut scopes = every_order(size);
    for backward in [false, true] {
        let order = if backward { "backward" } else { "forward" };
        let holds = match size {
            Size::Small if backward => 1,
            Size::Small | Size::Full => 2,
        };
        let fleet = Scope::new(2, 3);
        for victim in VICTIMS {
            let scope = fleet.clone().struck(1, &[victim]).holding(holds, backward);
            scopes.push((
                format!("2 workers, 3 tasks, {victim:?} struck, {order}, {holds} held"),
                scope,
            ));
        }
        let twice = fleet.struck(2, &VICTIMS).holding(0, backward);
        scopes.push((format!("2 workers, 3 tasks, two faults, {order}, nothing held"), twice));
        let flaky = Scope {
            flaky: Some(0),
            ..Scope::new(2, 2).struck(1, &VICTIMS).holding(holds, backward)
        };
        scopes.push((
            format!("2 workers, 2 tasks, one fails at first, one fault, {order}, {holds} held"),
            flaky,
        ));
    }
    scopes
}

fn every_order(size: Size) -> Vec<(String, Scope)> {
    let mut scopes = Vec::new();
    let alone = match size {
        Size::Small => 2,
        Size::Full => 3,
    };
    scopes.push(("2 workers, 3 tasks, no fault, every order".to_owned(), Scope::new(2, 3)));
    for victim in VICTIMS {
        // The death of a lone worker leaves the most to be done again.
        let tasks = if victim == Victim::Worker { alone - 1 } else { alone };
        let scope = Scope::new(1, tasks).struck(1, &[victim]);
        scopes.push((
            format!("1 worker, {tasks} tasks, {victim:?} struck, every order"),
            scope,
        ));
    }
    scopes
}
