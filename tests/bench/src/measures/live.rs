//! How long it takes until a changed configuration serves: with Handover, which validates it first, beside a bare hot
//! restart with the same arguments and the validation alone.

use anyhow::Result;

use super::Bench;
use super::envoys::{self, BARE, HANDOVER, Supervised, Unsupervised, VALIDATED};
use super::memory::{AT_START, PSS, RSS, what};
use crate::figures::Unit;
use crate::proc;
use crate::record::Record;

/// The name of the measure.
pub(crate) const NAME: &str = "live";

/// What is measured.
pub(crate) const CHANGE: &str = "change until live";
pub(crate) const HUP: &str = "HUP until live";
pub(crate) const VALIDATION: &str = "validation";
/// The subject of the validation.
pub(crate) const ENVOY: &str = "envoy --mode validate";
/// When the memory is measured for the second time.
pub(crate) const AT_END: &str = "at the end";

pub(super) fn measure(bench: &Bench, record: &mut Record) -> Result<()> {
    let mut supervised = Supervised::start(bench, "live")?;
    let mut unsupervised = Unsupervised::start(bench, "live")?;
    memory(&supervised, AT_START, record)?;
    for _ in 0..bench.choose(30, 1) {
        let unit = Unit::Milliseconds;
        record.add(CHANGE, HANDOVER, unit, supervised.change()?);
        record.add(VALIDATION, ENVOY, unit, supervised.site.validate()?);
        record.add(CHANGE, BARE, unit, unsupervised.change()?);
        envoys::settle(&supervised, &mut unsupervised)?;
        let validated = unsupervised.change_validated()?;
        record.add(CHANGE, VALIDATED, unit, validated);
        envoys::settle(&supervised, &mut unsupervised)?;
        record.add(HUP, HANDOVER, unit, supervised.hang_up()?);
        record.save()?;
        envoys::settle(&supervised, &mut unsupervised)?;
    }
    memory(&supervised, AT_END, record)?;
    record.save()
}

fn memory(supervised: &Supervised, moment: &str, record: &mut Record) -> Result<()> {
    let memory = proc::memory(supervised.process.pid())?;
    record.add(&what(RSS, moment), HANDOVER, Unit::Bytes, memory.rss);
    record.add(&what(PSS, moment), HANDOVER, Unit::Bytes, memory.pss);
    Ok(())
}
