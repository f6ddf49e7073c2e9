//! What may come of a store that somebody has changed.

use std::sync::Arc;

use offshoot::check::{CheckOptions, Report, check};
use offshoot::io::sim::SimMachine;

use offshoot_torture::model::Model;
use offshoot_torture::rig::Host;
use offshoot_torture::shown::{Shown, difference, fits, show, timed};

/// How a change ended that broke no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The check names it.
    Named,
    /// Nothing is wrong, nothing is lost.
    Harmless,
    /// The log is shorter by what nothing says was durable.
    Cut,
    /// Something is wrong that nothing can name, for the reason in the table.
    Unnamed,
}

/// Judges a changed store: the model and, if the end of the log was damaged, what else it may hold. An error says which
/// rule is broken.
pub fn judge(machine: &SimMachine, model: &Model, cut: &[Model]) -> Result<Verdict, String> {
    let report = timed("the check", || fsck(machine))?;
    let shown = timed("reading", || Ok(show(machine, 8)))?;
    let pages = match &shown {
        Shown::Refused(why) if report.is_clean() => {
            return Err(format!("the check is content, but it does not open: {why}"));
        }
        Shown::Refused(_) => return Ok(Verdict::Named),
        Shown::Pages(pages) => pages,
    };
    let errors = pages
        .values()
        .flatten()
        .filter(|page| page.is_none())
        .count();
    if errors > 0 && report.is_clean() {
        return Err(format!(
            "the check is content, but {errors} pages cannot be read"
        ));
    }
    let is_newest = fits(pages, model);
    if !is_newest && !cut.iter().any(|model| fits(pages, model)) {
        return Err(format!(
            "it shows what it does not hold: {}",
            difference(pages, model)
        ));
    }
    Ok(match (report.is_clean(), is_newest) {
        (false, _) => Verdict::Named,
        (true, true) => Verdict::Harmless,
        (true, false) => Verdict::Cut,
    })
}

/// The whole check, with keys; what is an error for it counts as found.
pub fn fsck(machine: &SimMachine) -> Result<Report, String> {
    let kms = Host::new(machine, 7).open_kms();
    let kms = kms.map_err(|error| format!("no key service: {error}"))?;
    let options = CheckOptions::new().kms(Arc::new(kms)).open_pages();
    match check(&machine.dir("store"), &options) {
        Ok(report) => Ok(report),
        Err(error) => Ok(Report {
            more_findings: 1,
            findings: vec![offshoot::check::Finding {
                code: "refused by the check",
                class: offshoot::check::Class::CorruptMetadata,
                place: error.to_string().into(),
                message: String::new(),
                repair: offshoot::check::Repair::Nothing,
            }],
            ..Report::default()
        }),
    }
}
