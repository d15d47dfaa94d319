//! What the page shows: decided here, drawn elsewhere.

use std::collections::BTreeMap;
use std::time::Instant;

use harmony_ventilator::rate::Rate;

use super::feed::Seen;
use crate::explain::Account;
use crate::status::Overview;

/// What a person asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The batch above.
    Up,
    /// The batch below.
    Down,
    /// Show the chosen batch alone.
    Open,
    /// Show all batches.
    Back,
    /// Enough.
    Quit,
}

/// The page.
#[derive(Debug, Default)]
pub(super) struct Page {
    batches: Vec<Overview>,
    /// The name of the chosen batch.
    chosen: Option<String>,
    open: Option<String>,
    detail: Option<Account>,
    rates: BTreeMap<String, Rate>,
    /// Why the last look failed.
    trouble: Option<String>,
    looked: bool,
}

impl Page {
    /// A page that knows nothing yet; `open` is shown alone.
    pub(super) fn new(open: Option<String>) -> Self {
        Self {
            chosen: open.clone(),
            open,
            ..Self::default()
        }
    }

    /// Takes what a look saw.
    pub(super) fn take(&mut self, now: Instant, seen: Seen) {
        let there = |name: &str| seen.batches.iter().any(|batch| batch.name == name);
        self.rates.retain(|name, _| there(name));
        for batch in &seen.batches {
            if let Some(counts) = batch.status.tasks {
                let settled = counts.succeeded + counts.failed;
                let rate = self.rates.entry(batch.name.clone()).or_insert_with(|| Rate::new(now));
                rate.update(now, settled);
            }
        }
        self.chosen = self.chosen.take().filter(|name| there(name));
        if self.chosen.is_none() {
            self.chosen = seen.batches.first().map(|batch| batch.name.clone());
        }
        self.batches = seen.batches;
        // The look may have begun before another batch was opened.
        self.detail = seen.detail.filter(|detail| Some(&detail.name) == self.open.as_ref());
        self.trouble = None;
        self.looked = true;
    }

    /// A look failed: what was seen before stays.
    pub(super) fn fail(&mut self, why: String) {
        self.trouble = Some(why);
        self.looked = true;
    }

    /// Does what a person asks for; false if that is the end.
    pub(super) fn obey(&mut self, wish: Wish) -> bool {
        match wish {
            Wish::Quit => return false,
            Wish::Up => self.choose(|position| position.saturating_sub(1)),
            Wish::Down => self.choose(|position| position + 1),
            Wish::Open => {
                if self.open.is_none() {
                    self.open.clone_from(&self.chosen);
                    self.detail = None;
                }
            }
            Wish::Back => {
                self.open = None;
                self.detail = None;
            }
        }
        true
    }

    fn choose(&mut self, to: impl Fn(usize) -> usize) {
        let at = self.position().map_or(0, to).min(self.batches.len().saturating_sub(1));
        if self.open.is_none() {
            self.chosen = self.batches.get(at).map(|batch| batch.name.clone());
        }
    }

    /// The place of the chosen batch among all.
    pub(super) fn position(&self) -> Option<usize> {
        let chosen = self.chosen.as_ref()?;
        self.batches.iter().position(|batch| batch.name == *chosen)
    }

    /// The name of the batch that is shown alone.
    pub(super) fn open(&self) -> Option<&str> {
        self.open.as_deref()
    }

    pub(super) fn batches(&self) -> &[Overview] {
        &self.batches
    }

    pub(super) fn detail(&self) -> Option<&Account> {
        self.detail.as_ref()
    }

    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether any look has ended.
    pub(super) fn has_looked(&self) -> bool {
        self.looked
    }

    /// Tasks settled per second: as its status says, or as this page saw.
    pub(super) fn rate(&self, batch: &Overview) -> Option<f64> {
        let said = batch.status.throughput_per_second.as_ref();
        let seen = || self.rates.get(&batch.name).map(Rate::per_second);
        let rate = said.and_then(|rate| rate.parse().ok()).or_else(seen)?;
        (rate > 0.0).then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(names: &[&str]) -> Seen {
        let overview = |name: &&str| Overview {
            name: (*name).to_owned(),
            ..Overview::default()
        };
        Seen {
            batches: names.iter().map(overview).collect(),
            detail: None,
        }
    }

    #[test]
    fn the_choice_stays_at_its_batch_and_within_the_list() {
        let mut page = Page::new(None);
        let now = Instant::now();
        page.take(now, seen(&["a", "b", "c"]));
        assert_eq!(page.position(), Some(0));
        for (wish, position) in [(Wish::Up, 0), (Wish::Down, 1), (Wish::Down, 2), (Wish::Down, 2)] {
            assert!(page.obey(wish));
            assert_eq!(page.position(), Some(position));
        }
        page.take(now, seen(&["0", "a", "b", "c"]));
        assert_eq!(page.position(), Some(3), "it is the same batch");
        page.take(now, seen(&["0", "a"]));
        assert_eq!(page.position(), Some(0), "its batch is gone");
        page.take(now, seen(&[]));
        assert_eq!(page.position(), None);
        assert!(page.obey(Wish::Down));
        assert!(!page.obey(Wish::Quit));
    }

    #[test]
    fn a_batch_is_opened_and_closed() {
        let mut page = Page::new(None);
        page.take(Instant::now(), seen(&["a", "b"]));
        page.obey(Wish::Down);
        page.obey(Wish::Open);
        assert_eq!(page.open(), Some("b"));
        page.obey(Wish::Up);
        page.obey(Wish::Open);
        assert_eq!(page.open(), Some("b"), "the list is not shown");
        let mut late = seen(&["a", "b"]);
        late.detail = Some(Account {
            name: "a".into(),
            ..Account::default()
        });
        page.take(Instant::now(), late);
        assert!(page.detail().is_none(), "it is about another batch");
        page.obey(Wish::Back);
        assert_eq!(page.open(), None);
    }

    #[test]
    fn a_look_that_fails_leaves_what_was_seen() {
        let mut page = Page::new(None);
        page.take(Instant::now(), seen(&["a"]));
        page.fail("the API server is gone".into());
        assert_eq!(
            (page.batches().len(), page.trouble()),
            (1, Some("the API server is gone"))
        );
        page.take(Instant::now(), seen(&["a"]));
        assert_eq!(page.trouble(), None);
    }
}
