//! Broken rules: a check panics, and what it says is kept instead of printed.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

/// What a broken rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What is wrong.
    pub message: String,
    /// The check that found it.
    pub place: String,
}

impl Broken {
    /// Which rule it is: the message without what differs from run to run.
    pub fn rule(&self) -> String {
        let line = self.message.lines().next().unwrap_or_default();
        let line = line.split(['[', '{']).next().unwrap_or_default();
        // The number of a rule is its name.
        let named = |name: &str| name.starts_with("rule ") || name.starts_with('I') && name.len() <= "I10".len();
        let name = line.find(": ").filter(|end| named(&line[..*end])).unwrap_or_default();
        let (name, line) = line.split_at(name);
        let mut rule = name.to_owned();
        for letter in line.chars() {
            let letter = if letter.is_ascii_digit() { '#' } else { letter };
            if letter != '#' || !rule.ends_with('#') {
                rule.push(letter);
            }
        }
        rule
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.place)
    }
}

thread_local! {
    /// Whether panics of this thread are kept instead of printed.
    static KEEPS: Cell<bool> = const { Cell::new(false) };
    /// The last one.
    static LAST: RefCell<Option<Broken>> = const { RefCell::new(None) };
}

/// Does something, and returns what it says if it breaks a rule; nothing is printed.
pub fn catch<T>(what: impl FnOnce() -> T) -> Result<T, Broken> {
    install();
    let before = KEEPS.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(what));
    KEEPS.set(before);
    result.map_err(|_| LAST.take().expect("the hook keeps each panic"))
}

/// Panics within [`catch`] are kept, all others go to the hook that was there before.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if KEEPS.get() {
                LAST.set(Some(described(info)));
            } else {
                before(info);
            }
        }));
    });
}

fn described(info: &PanicHookInfo<'_>) -> Broken {
    Broken {
        message: info.payload_as_str().unwrap_or("a panic without a message").to_owned(),
        place: info.location().map(ToString::to_string).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_known_by_its_message_without_numbers() {
        let rule = |number: u64| catch(|| panic!("{number} is settled, yet {:?} runs", [number])).map_err(|b| b.rule());
        assert_eq!(rule(7), Err::<(), _>("# is settled, yet ".to_owned()));
        assert_eq!(rule(7), rule(1234));
        let named = catch(|| panic!("I{}: {} is gone", 10, 7)).map_err(|b| b.rule());
        assert_eq!(named, Err::<(), _>("I10: # is gone".to_owned()));
        assert_eq!(catch(|| 7), Ok(7));
    }
}
