//! Many mutants, in two threads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::judge::Verdict;

/// Which of all mutants are tried: so many, evenly spread, or those from one number to another. A campaign sets the
/// variable to what comes next.
#[derive(Clone, Copy, Debug)]
pub enum Sample {
    Evenly(usize),
    Slice(usize, usize),
}

impl Sample {
    /// `N`, `all` or `FROM..TO`.
    pub fn from_env(variable: &str, count: usize) -> Self {
        let number = |text: &str| {
            text.parse()
                .unwrap_or_else(|_| panic!("{variable}: {text}"))
        };
        match std::env::var(variable).ok().as_deref() {
            None => Self::Evenly(count),
            Some("all") => Self::Evenly(usize::MAX),
            Some(text) => match text.split_once("..") {
                Some((from, to)) => Self::Slice(number(from), number(to)),
                None => Self::Evenly(number(text)),
            },
        }
    }

    pub fn of<T: Copy>(self, all: &[T]) -> Vec<T> {
        match self {
            Self::Evenly(count) => {
                let count = count.clamp(1, all.len());
                (0..count).map(|n| all[n * all.len() / count]).collect()
            }
            Self::Slice(from, to) => all[from.min(all.len())..to.min(all.len())].to_vec(),
        }
    }
}

/// What came of them.
#[derive(Debug, Default)]
pub struct Report {
    pub counts: BTreeMap<Verdict, usize>,
    /// They changed nothing.
    pub same: usize,
    pub failures: Vec<String>,
}

/// Judges them all.
pub fn try_all<T: Sync>(
    mutants: Vec<T>,
    judge: impl Fn(&T) -> Result<Option<Verdict>, String> + Sync,
) -> Report {
    let (next, report) = (AtomicUsize::new(0), Mutex::new(Report::default()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let judged = judge(mutant);
                    let mut report = report.lock().unwrap();
                    match judged {
                        Ok(Some(verdict)) => *report.counts.entry(verdict).or_default() += 1,
                        Ok(None) => report.same += 1,
                        Err(why) => report.failures.push(why),
                    }
                }
            });
        }
    });
    report.into_inner().unwrap()
}

impl Report {
    /// No rule was broken, and of so many mutants that changed something at least one was named.
    pub fn assert(&self, of: usize) {
        let first = &self.failures[..self.failures.len().min(20)];
        assert!(
            first.is_empty(),
            "{} failures: {first:#?}",
            self.failures.len()
        );
        let (named, all) = (
            self.counts.get(&Verdict::Named),
            self.counts.values().sum::<usize>(),
        );
        assert!(
            named.copied().unwrap_or(0) * of >= all,
            "only {named:?} of {all} were named"
        );
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (verdict, count) in &self.counts {
            write!(f, "{count} {verdict:?}, ")?;
        }
        write!(
            f,
            "{} the same, {} failures",
            self.same,
            self.failures.len()
        )
    }
}
