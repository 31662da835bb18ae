//! Making one text of the statistics of several epochs. It is pure.
//!
//! **By epoch**, each sample gets a label with the number of its epoch, so every series is that of one epoch, and
//! `rate()` is right for each of them. **As a sum**, there is one series for all epochs, which goes on over a
//! hand-over: counters and histograms are added up, and everything else is that of the newest epoch.
//!
//! Each family has one `TYPE`, that of the newest epoch that has it. Samples of an epoch in which it has
//! another one are left out. Buckets are added where each of the histograms has them: at the other bounds nobody
//! knows the sum.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{self, Write as _};

use handover_core::Epoch;

use super::exposition::{Exposition, Family, Kind, Sample};

/// The label that is added. A label of the epoch itself with this name becomes `exported_epoch`.
const LABEL: &str = "epoch";

/// Tells by epoch whether it was asked: it belongs to us, and is left out of every text.
pub(super) const SCRAPED: &str = "handover_stats_scraped";

/// The statistics of an epoch.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) epoch: Epoch,
    /// Whether it was asked for all of it just now. Otherwise only what it has counted is still true.
    pub(super) is_fresh: bool,
    pub(super) text: Exposition<'a>,
}

/// Merges the statistics by epoch. The sources come newest first, and an epoch may come twice.
/// `scraped` tells of each running epoch whether it was asked just now.
pub(super) fn by_epoch(sources: &[Source<'_>], scraped: &BTreeMap<Epoch, bool>) -> String {
    let mut merged = merged(sources, |source| Some(source.epoch));
    if !scraped.is_empty() {
        let help = "Whether the epoch could be asked for its statistics, 0 or 1.";
        merged.push_str(&format!(
            "# HELP {SCRAPED} {help}\n# TYPE {SCRAPED} gauge\n"
        ));
    }
    for (epoch, scraped) in scraped {
        let value = u8::from(*scraped);
        // Writing to a string cannot fail.
        let _ = writeln!(merged, "{SCRAPED}{{{LABEL}=\"{epoch}\"}} {value}");
    }
    merged
}

/// Adds the statistics of all epochs up. The sources come newest first.
pub(super) fn as_sum(sources: &[Source<'_>]) -> String {
    merged(sources, |_| None)
}

/// Adds up what two ended epochs have counted, and leaves out the rest. With `only_newer`, series that only
/// the older one has are left out too.
pub(super) fn folded(older: &str, newer: &str, only_newer: bool) -> String {
    let read = |text| Exposition::read(text).unwrap_or_default();
    let (older, newer) = (read(older), read(newer));
    let mut text = String::new();
    let names = newer.families().map(|family| family.name).collect();
    for family in families(&[&newer, &older], &names, only_newer) {
        let mut sum = Sum::default();
        let newest = newer.get(family.name);
        if let Some(newest) = newest {
            sum.add(newest);
        }
        if let Some(oldest) = older.get(family.name).filter(|it| it.kind == family.kind) {
            match only_newer {
                true => sum.add_known(oldest),
                false => sum.add(oldest),
            }
        }
        if family.kind.adds_up() {
            head(&mut text, family);
            sum.write(&mut text, None);
        }
    }
    text
}

/// Returns what the earlier text of an epoch has counted under names and labels that the later one does not have.
pub(super) fn gone(earlier: &str, later: &str) -> String {
    let read = |text| Exposition::read(text).unwrap_or_default();
    let (earlier, later) = (read(earlier), read(later));
    let mut text = String::new();
    for family in earlier.families().filter(|family| family.kind.adds_up()) {
        let after = later.get(family.name);
        let after = after.into_iter().flat_map(|family| &family.samples);
        let known: HashSet<_> = after.map(|sample| (sample.name, sample.labels)).collect();
        let samples = family.samples.iter();
        let gone: Vec<_> = samples
            .filter(|sample| !known.contains(&(sample.name, sample.labels)))
            .collect();
        if !gone.is_empty() {
            head(&mut text, family);
            gone.into_iter()
                .for_each(|sample| line(&mut text, sample, None));
        }
    }
    text
}

fn families<'a, 'b>(
    texts: &[&'b Exposition<'a>],
    known: &HashSet<&'a str>,
    only_known: bool,
) -> Vec<&'b Family<'a>> {
    let mut seen = HashSet::new();
    let all = texts.iter().flat_map(|text| text.families());
    all.filter(|family| !only_known || known.contains(family.name))
        .filter(|family| seen.insert(family.name))
        .collect()
}

fn merged(sources: &[Source<'_>], group: impl Fn(&Source<'_>) -> Option<Epoch>) -> String {
    let mut text = String::new();
    let counts = |source: &Source<'_>, kind: Kind| source.is_fresh || kind.adds_up();
    let mut seen = HashSet::new();
    let all = sources.iter().flat_map(|source| {
        let families = source.text.families();
        families.filter(move |family| counts(source, family.kind))
    });
    for family in all.filter(|family| family.name != SCRAPED) {
        if !seen.insert(family.name) {
            continue;
        }
        // Newest first, as the sources.
        let mut groups: Vec<(Option<Epoch>, Vec<&Family<'_>>)> = Vec::new();
        for source in sources {
            let member = source.text.get(family.name);
            let Some(member) = member.filter(|it| it.kind == family.kind) else {
                continue;
            };
            if !counts(source, family.kind) {
                continue;
            }
            let group = group(source);
            match groups.iter_mut().find(|(known, _)| *known == group) {
                Some((_, members)) => members.push(member),
                None => groups.push((group, vec![member])),
            }
        }
        head(&mut text, family);
        for (group, members) in &groups {
            match members.as_slice() {
                [first, more @ ..] if family.kind.adds_up() && !more.is_empty() => {
                    let mut sum = Sum::default();
                    sum.add(first);
                    more.iter().for_each(|member| sum.add(member));
                    sum.write(&mut text, *group);
                }
                [newest, ..] => {
                    for sample in &newest.samples {
                        line(&mut text, sample, *group);
                    }
                }
                [] => {}
            }
        }
    }
    text
}

fn head(text: &mut String, family: &Family<'_>) {
    let Family {
        name, kind, help, ..
    } = family;
    // Writing to a string cannot fail.
    if let Some(help) = help {
        let _ = writeln!(text, "# HELP {name} {help}");
    }
    let _ = writeln!(text, "# TYPE {name} {kind}");
}

fn line(text: &mut String, sample: &Sample<'_>, epoch: Option<Epoch>) {
    let Sample {
        name,
        labels,
        value,
    } = sample;
    let labels = Labels { labels, epoch };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{name}{labels} {value}");
}

/// Labels with their braces, and the epoch as the first of them if there is one.
struct Labels<'a> {
    labels: &'a str,
    epoch: Option<Epoch>,
}

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { labels, epoch } = *self;
        match (epoch, labels.is_empty()) {
            (None, true) => Ok(()),
            (None, false) => write!(f, "{{{labels}}}"),
            (Some(epoch), true) => write!(f, "{{{LABEL}=\"{epoch}\"}}"),
            (Some(epoch), false) => {
                write!(f, "{{{LABEL}=\"{epoch}\"")?;
                if !labels.contains(LABEL) {
                    return write!(f, ",{labels}}}");
                }
                let sample = Sample {
                    name: "",
                    labels,
                    value: "",
                };
                for (name, value) in sample.each_label() {
                    // As Prometheus renames a label that it sets itself.
                    let prefix = if name == LABEL { "exported_" } else { "" };
                    write!(f, ",{prefix}{name}=\"{value}\"")?;
                }
                f.write_str("}")
            }
        }
    }
}

/// A value. Envoy's counters are whole, and may have more digits than a float.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Whole(u64),
    Float(f64),
}

impl Value {
    /// Reads the value of a sample, without its time.
    fn of(sample: &Sample<'_>) -> Self {
        let number = sample.value.split_ascii_whitespace().next();
        let number = number.unwrap_or_default();
        let whole = number.parse().map(Self::Whole);
        whole.unwrap_or_else(|_| Self::Float(number.parse().unwrap_or(f64::NAN)))
    }

    fn float(self) -> f64 {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "the readers know floats only")]
            Self::Whole(whole) => whole as f64,
            Self::Float(float) => float,
        }
    }

    fn plus(self, other: Self) -> Self {
        let whole = match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a.checked_add(b).map(Self::Whole),
            _ => None,
        };
        whole.unwrap_or_else(|| Self::Float(self.float() + other.float()))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(whole) => write!(f, "{whole}"),
            Self::Float(float) if *float == f64::INFINITY => f.write_str("+Inf"),
            Self::Float(float) if *float == f64::NEG_INFINITY => f.write_str("-Inf"),
            Self::Float(float) => write!(f, "{float}"),
        }
    }
}

/// The name of a sample, and its labels without the bound of a bucket.
type Key<'a> = (&'a str, Cow<'a, str>);

/// The series of one family, added up.
#[derive(Default)]
struct Sum<'a> {
    series: Vec<Series<'a>>,
    index: HashMap<Key<'a>, usize>,
}

struct Series<'a> {
    key: Key<'a>,
    /// Its only value, or one for each bound. The order is that of the first text.
    values: Vec<(Option<&'a str>, Value)>,
}

impl<'a> Sum<'a> {
    /// Adds all that another family of the same name has.
    fn add(&mut self, family: &Family<'a>) {
        self.add_each(family, true);
    }

    /// Adds what another family of the same name has of the series that are there.
    fn add_known(&mut self, family: &Family<'a>) {
        self.add_each(family, false);
    }

    fn add_each(&mut self, family: &Family<'a>, unknown: bool) {
        let before = self.series.len();
        // What this family has of each series that was there before.
        let mut added: HashMap<usize, Vec<(Option<&str>, Value)>> = HashMap::new();
        for sample in &family.samples {
            let is_bucket = family.kind == Kind::Histogram && sample.name.ends_with("_bucket");
            let (labels, bound) = match is_bucket {
                true => without_bound(sample),
                false => (Cow::Borrowed(sample.labels), None),
            };
            let value = Value::of(sample);
            let key = (sample.name, labels);
            match self.index.get(&key) {
                Some(index) if *index < before => {
                    added.entry(*index).or_default().push((bound, value));
                }
                Some(index) => {
                    if let Some(series) = self.series.get_mut(*index) {
                        series.values.push((bound, value));
                    }
                }
                None if unknown => {
                    self.index.insert(key.clone(), self.series.len());
                    let values = vec![(bound, value)];
                    self.series.push(Series { key, values });
                }
                None => {}
            }
        }
        for (index, added) in added {
            if let Some(series) = self.series.get_mut(index) {
                series.values.retain_mut(|(bound, value)| {
                    let more = added.iter().find(|(known, _)| known == bound);
                    if let Some((_, more)) = more {
                        *value = value.plus(*more);
                    }
                    more.is_some()
                });
            }
        }
    }

    fn write(&self, text: &mut String, epoch: Option<Epoch>) {
        for Series { key, values } in &self.series {
            let (name, labels) = key;
            for (bound, value) in values {
                let labels = match bound {
                    None => Cow::Borrowed(&**labels),
                    Some(bound) if labels.is_empty() => format!("le=\"{bound}\"").into(),
                    Some(bound) => format!("{labels},le=\"{bound}\"").into(),
                };
                let labels = Labels {
                    labels: &labels,
                    epoch,
                };
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        }
    }
}

/// Returns the labels of a bucket without its bound, and the bound.
fn without_bound<'a>(sample: &Sample<'a>) -> (Cow<'a, str>, Option<&'a str>) {
    let (mut labels, mut bound) = (String::new(), None);
    for (name, value) in sample.each_label() {
        if name == "le" {
            bound = Some(value);
            continue;
        }
        if !labels.is_empty() {
            labels.push(',');
        }
        // Writing to a string cannot fail.
        let _ = write!(labels, "{name}=\"{value}\"");
    }
    (labels.into(), bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWEST: &str = "# TYPE rq counter\n\
        rq{cluster=\"a\"} 5\nrq{cluster=\"b\"} 1\n\
        # TYPE active gauge\nactive 2\n\
        # TYPE ms histogram\n\
        ms_bucket{le=\"1\"} 1\nms_bucket{le=\"5\"} 2\nms_bucket{le=\"+Inf\"} 3\nms_sum 9.5\nms_count 3\n";
    const OLDER: &str = "# HELP rq Requests.\n# TYPE rq counter\n\
        rq{cluster=\"a\"} 18446744073709551615\nrq{cluster=\"c\"} 3\n\
        # TYPE active gauge\nactive 4\n\
        # TYPE ms histogram\n\
        ms_bucket{le=\"1\"} 10\nms_bucket{le=\"+Inf\"} 30\nms_sum 0.5\nms_count 30\n\
        # TYPE gone counter\ngone 1\n";

    fn source(epoch: u32, is_fresh: bool, text: &str) -> Source<'_> {
        Source {
            epoch: Epoch::new(epoch),
            is_fresh,
            text: Exposition::read(text).unwrap(),
        }
    }

    #[test]
    fn each_sample_gets_its_epoch_and_each_family_one_type() {
        let sources = [source(2, true, NEWEST), source(1, false, OLDER)];
        let scraped = [(Epoch::new(1), false), (Epoch::new(2), true)];
        insta::assert_snapshot!(by_epoch(&sources, &scraped.into()), @r#"
        # TYPE rq counter
        rq{epoch="2",cluster="a"} 5
        rq{epoch="2",cluster="b"} 1
        rq{epoch="1",cluster="a"} 18446744073709551615
        rq{epoch="1",cluster="c"} 3
        # TYPE active gauge
        active{epoch="2"} 2
        # TYPE ms histogram
        ms_bucket{epoch="2",le="1"} 1
        ms_bucket{epoch="2",le="5"} 2
        ms_bucket{epoch="2",le="+Inf"} 3
        ms_sum{epoch="2"} 9.5
        ms_count{epoch="2"} 3
        ms_bucket{epoch="1",le="1"} 10
        ms_bucket{epoch="1",le="+Inf"} 30
        ms_sum{epoch="1"} 0.5
        ms_count{epoch="1"} 30
        # TYPE gone counter
        gone{epoch="1"} 1
        # HELP handover_stats_scraped Whether the epoch could be asked for its statistics, 0 or 1.
        # TYPE handover_stats_scraped gauge
        handover_stats_scraped{epoch="1"} 0
        handover_stats_scraped{epoch="2"} 1
        "#);
    }

    #[test]
    fn as_a_sum_counters_go_on_and_gauges_are_those_of_the_newest() {
        let sources = [source(2, true, NEWEST), source(1, false, OLDER)];
        insta::assert_snapshot!(as_sum(&sources), @r#"
        # TYPE rq counter
        rq{cluster="a"} 18446744073709552000
        rq{cluster="b"} 1
        rq{cluster="c"} 3
        # TYPE active gauge
        active 2
        # TYPE ms histogram
        ms_bucket{le="1"} 11
        ms_bucket{le="+Inf"} 33
        ms_sum 10
        ms_count 33
        # TYPE gone counter
        gone 1
        "#);
    }

    #[test]
    fn two_runs_of_one_epoch_are_added_up() {
        let first = "# TYPE rq counter\nrq{cluster=\"a\"} 2\n";
        let sources = [source(1, true, NEWEST), source(1, false, first)];
        let merged = by_epoch(&sources, &BTreeMap::new());
        assert!(
            merged.contains("rq{epoch=\"1\",cluster=\"a\"} 7\n"),
            "{merged}"
        );
        assert_eq!(merged.matches("# TYPE rq ").count(), 1);
    }

    #[test]
    fn a_family_of_another_type_and_a_label_of_our_name_spoil_nothing() {
        let newest = "# TYPE x counter\nx{epoch=\"moon\",a=\"my epoch\"} 1\n# TYPE handover_stats_scraped gauge\nhandover_stats_scraped 1\n";
        let older = "# TYPE x gauge\nx 7\n# TYPE s summary\ns_count 1\n";
        let sources = [source(1, true, newest), source(0, false, older)];
        insta::assert_snapshot!(by_epoch(&sources, &BTreeMap::new()), @r#"
        # TYPE x counter
        x{epoch="1",exported_epoch="moon",a="my epoch"} 1
        "#);
    }

    #[test]
    fn what_ended_epochs_have_counted_is_folded_into_one_text() {
        let both = folded(OLDER, NEWEST, false);
        assert!(both.contains("rq{cluster=\"c\"} 3\n") && both.contains("gone 1\n"));
        assert!(!both.contains("active"), "{both}");
        assert_eq!(folded("", &both, false), both, "it can be read again");
        insta::assert_snapshot!(folded(OLDER, NEWEST, true), @r#"
        # TYPE rq counter
        rq{cluster="a"} 18446744073709552000
        rq{cluster="b"} 1
        # TYPE ms histogram
        ms_bucket{le="1"} 11
        ms_bucket{le="+Inf"} 33
        ms_sum 10
        ms_count 33
        "#);
    }
}
