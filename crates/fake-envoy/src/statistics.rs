//! Counters and gauges, and what a child merges of its parent's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::StatsMatcher;
use crate::wire;

/// What a statistic is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Counter(u64),
    Gauge(u64),
    Text(String),
}

/// A number that its owner changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Number(Arc<AtomicU64>);

impl Number {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a gauge of the parent counts into that of the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Import {
    /// Its value is added while both run.
    Add,
    /// It does not count.
    Never,
}

#[derive(Debug)]
enum Metric {
    Counter {
        number: Number,
        /// What a child knows already.
        told: u64,
    },
    Gauge {
        number: Number,
        import: Import,
        /// The part of the parent.
        parent: u64,
    },
    Text(String),
}

/// The statistics of one process.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    matcher: StatsMatcher,
    metrics: Mutex<BTreeMap<String, Metric>>,
}

impl Statistics {
    pub(crate) fn new(matcher: StatsMatcher) -> Self {
        Self {
            matcher,
            metrics: Mutex::default(),
        }
    }

    fn metrics(&self) -> MutexGuard<'_, BTreeMap<String, Metric>> {
        // A map of numbers is whole whoever panicked while it was locked.
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a counter. One that the matcher leaves out counts for itself alone.
    pub(crate) fn counter(&self, name: &str) -> Number {
        let mut metrics = self.metrics();
        if let Some(Metric::Counter { number, .. }) = metrics.get(name) {
            return number.clone();
        }
        let number = Number::default();
        if self.matcher.keeps(name) {
            let counter = Metric::Counter {
                number: number.clone(),
                told: 0,
            };
            metrics.insert(name.to_owned(), counter);
        }
        number
    }

    /// Returns a gauge. One that the matcher leaves out counts for itself alone.
    pub(crate) fn gauge(&self, name: &str, import: Import) -> Number {
        let mut metrics = self.metrics();
        if let Some(Metric::Gauge { number, .. }) = metrics.get(name) {
            return number.clone();
        }
        let number = Number::default();
        if self.matcher.keeps(name) {
            let gauge = Metric::Gauge {
                number: number.clone(),
                import,
                parent: 0,
            };
            metrics.insert(name.to_owned(), gauge);
        }
        number
    }

    /// Sets a text.
    pub(crate) fn text(&self, name: &str, text: &str) {
        if self.matcher.keeps(name) {
            let text = Metric::Text(text.to_owned());
            self.metrics().insert(name.to_owned(), text);
        }
    }

    /// Returns all statistics by name, with the parts of the parent.
    pub(crate) fn all(&self) -> Vec<(String, Value)> {
        let metrics = self.metrics();
        let each = metrics.iter().map(|(name, metric)| {
            let value = match metric {
                Metric::Counter { number, .. } => Value::Counter(number.get()),
                Metric::Gauge { number, parent, .. } => {
                    Value::Gauge(number.get().saturating_add(*parent))
                }
                Metric::Text(text) => Value::Text(text.clone()),
            };
            (name.clone(), value)
        });
        each.collect()
    }

    /// Returns what a child is told: how much each counter has grown, and each gauge.
    pub(crate) fn for_child(&self, memory_allocated: u64, connections: u64) -> wire::Stats {
        let mut stats = wire::Stats {
            memory_allocated,
            connections,
            ..wire::Stats::default()
        };
        for (name, metric) in self.metrics().iter_mut() {
            match metric {
                Metric::Counter { number, told } => {
                    let value = number.get();
                    let grown = value.saturating_sub(*told);
                    *told = value;
                    if grown > 0 {
                        stats.counter_deltas.insert(name.clone(), grown);
                    }
                }
                Metric::Gauge { number, parent, .. } => {
                    let value = number.get().saturating_add(*parent);
                    stats.gauges.insert(name.clone(), value);
                }
                Metric::Text(_) => {}
            }
        }
        stats
    }

    /// Merges what the parent told. A statistic that is not known here is made.
    pub(crate) fn merge(&self, stats: &wire::Stats) {
        for (name, grown) in &stats.counter_deltas {
            self.counter(name).add(*grown);
        }
        let mut metrics = self.metrics();
        for (name, value) in &stats.gauges {
            if let Some(Metric::Gauge {
                import: Import::Add,
                parent,
                ..
            }) = metrics.get_mut(name)
            {
                *parent = *value;
            }
        }
    }

    /// Forgets the gauges of a parent that ends.
    pub(crate) fn forget_parent(&self) {
        for metric in self.metrics().values_mut() {
            if let Metric::Gauge { parent, .. } = metric {
                *parent = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(statistics: &Statistics) -> Vec<(String, u64)> {
        let all = statistics.all().into_iter();
        all.map(|(name, value)| match value {
            Value::Counter(value) | Value::Gauge(value) => (name, value),
            Value::Text(_) => panic!("a number"),
        })
        .collect()
    }

    fn pair(a: u64, b: u64) -> Vec<(String, u64)> {
        vec![("active".to_owned(), a), ("total".to_owned(), b)]
    }

    #[test]
    fn a_child_contains_its_parent_until_that_ends() {
        let parent = Statistics::default();
        parent.counter("total").add(5);
        parent.gauge("active", Import::Add).add(2);
        let child = Statistics::default();
        child.counter("total").add(1);
        child.gauge("active", Import::Add).add(1);

        child.merge(&parent.for_child(0, 2));
        assert_eq!(shown(&child), pair(3, 6));
        // The parent's connections have ended, and the child does not know before it asks.
        parent.gauge("active", Import::Add).subtract(2);
        assert_eq!(shown(&child), pair(3, 6));
        child.merge(&parent.for_child(0, 0));
        assert_eq!(shown(&child), pair(1, 6));
        parent.counter("total").add(1);
        parent.gauge("active", Import::Add).add(4);
        child.merge(&parent.for_child(0, 4));
        child.forget_parent();
        assert_eq!(shown(&child), pair(1, 7));
    }

    #[test]
    fn a_matcher_leaves_statistics_out() {
        let statistics = Statistics::new(StatsMatcher::None);
        statistics.counter("total").add(1);
        statistics.text("version_text", "x");
        assert_eq!(statistics.all(), []);
    }
}
