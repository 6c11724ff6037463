//! What happens per second: the counters, looked at once a second.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidecast_broker::TopicCount;
use tidecast_worker::{Counters, Task, Times, Totals};

use super::State;

/// How often the counters are looked at, and whether workers live.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
/// Over how long rates and percentiles are taken.
const WINDOW: Duration = Duration::from_secs(5);
/// After so many seconds what was published to a topic counts half.
const HALF_LIFE: f64 = 10.0;
/// Topics that are remembered.
const MOST_TOPICS: usize = 2048;

/// The counters at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    at: Instant,
    /// Of each worker.
    pub(crate) workers: Vec<Totals>,
    /// Of all.
    pub(crate) times: AllTimes,
}

/// How long things took.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllTimes {
    pub(crate) delivery: Times,
    pub(crate) turn: Times,
    pub(crate) flush: Times,
}

impl Sample {
    /// Looks at the counters.
    pub(crate) fn look(counters: &[Arc<Counters>]) -> Sample {
        let mut times = AllTimes::default();
        let workers = counters.iter().map(|counters| {
            counters.delivery.add_to(&mut times.delivery);
            counters.turn.add_to(&mut times.turn);
            counters.flush.add_to(&mut times.flush);
            counters.totals()
        });
        Sample {
            at: Instant::now(),
            workers: workers.collect(),
            times,
        }
    }

    /// The sums over all workers.
    pub(crate) fn totals(&self) -> Totals {
        self.workers.iter().copied().sum()
    }
}

/// What has happened between two samples.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    seconds: f64,
    /// Of each worker: before, and after.
    workers: Vec<(Totals, Totals)>,
    pub(crate) times: AllTimes,
}

impl Change {
    /// How much a counter of a worker grew in a second.
    pub(crate) fn rate_of(&self, worker: usize, counter: impl Fn(&Totals) -> u64) -> f64 {
        let (before, after) = &self.workers[worker];
        counter(after).saturating_sub(counter(before)) as f64 / self.seconds
    }

    /// How much a counter of all workers grew in a second.
    pub(crate) fn rate(&self, counter: impl Fn(&Totals) -> u64) -> f64 {
        (0..self.workers.len())
            .map(|worker| self.rate_of(worker, &counter))
            .sum()
    }
}

/// How much is published to a topic, of late more than before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Heat {
    messages: f64,
    octets: f64,
}

/// How much is published to a topic in a second.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TopicRate {
    pub(crate) topic: String,
    pub(crate) messages: f64,
    pub(crate) octets: f64,
}

/// Looks at the counters.
#[derive(Debug)]
pub(crate) struct Sampler {
    samples: VecDeque<Sample>,
    topics: HashMap<String, Heat>,
}

impl Sampler {
    pub(crate) fn new() -> Sampler {
        Sampler {
            samples: VecDeque::new(),
            topics: HashMap::new(),
        }
    }

    /// Adds a sample, and makes what was published before count less.
    fn add(&mut self, sample: Sample) {
        if let Some(before) = self.samples.back() {
            let fade = 0.5_f64.powf((sample.at - before.at).as_secs_f64() / HALF_LIFE);
            self.topics.retain(|_, heat| {
                heat.messages *= fade;
                heat.octets *= fade;
                heat.messages > 0.01
            });
        }
        self.samples.push_back(sample);
        let last = self.samples.back().map(|sample| sample.at);
        // The oldest is as old as the window, or the next one after that.
        while let (Some(last), Some(second)) = (last, self.samples.get(1))
            && last - second.at >= WINDOW
        {
            self.samples.pop_front();
        }
    }

    /// A worker has answered what was published to which topics.
    fn heard(&mut self, counts: Vec<TopicCount>) {
        for count in counts {
            // What may have been for other topics is not counted for this one.
            let share = 1.0 - count.error as f64 / count.messages.max(1) as f64;
            let heat = self.topics.entry(count.topic).or_default();
            heat.messages += count.messages as f64 * share;
            heat.octets += count.octets as f64 * share;
        }
        if self.topics.len() > MOST_TOPICS {
            let mut heats: Vec<f64> = self.topics.values().map(|heat| heat.messages).collect();
            let (_, least, _) = heats.select_nth_unstable_by(MOST_TOPICS / 2, |one, other| other.total_cmp(one));
            let least = *least;
            self.topics.retain(|_, heat| heat.messages > least);
        }
    }

    /// What has happened of late; nothing, if that is not known yet.
    pub(crate) fn change(&self) -> Option<Change> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let seconds = (last.at - first.at).as_secs_f64();
        (seconds > 0.0).then(|| Change {
            seconds,
            workers: std::iter::zip(first.workers.iter().copied(), last.workers.iter().copied()).collect(),
            times: AllTimes {
                delivery: last.times.delivery.since(&first.times.delivery),
                turn: last.times.turn.since(&first.times.turn),
                flush: last.times.flush.since(&first.times.flush),
            },
        })
    }

    /// The topics that are published to most, at most so many.
    pub(crate) fn top_topics(&self, most: usize) -> Vec<TopicRate> {
        // What is published steadily adds up to so many seconds' worth.
        let seconds = HALF_LIFE / std::f64::consts::LN_2;
        let rate = |(topic, heat): (&String, &Heat)| TopicRate {
            topic: topic.clone(),
            messages: heat.messages / seconds,
            octets: heat.octets / seconds,
        };
        let mut rates: Vec<TopicRate> = self.topics.iter().map(rate).collect();
        rates.sort_by(|one, other| {
            other
                .messages
                .total_cmp(&one.messages)
                .then_with(|| one.topic.cmp(&other.topic))
        });
        rates.truncate(most);
        rates
    }
}

/// Looks at the counters once a second, and asks workers which topics were published to.
pub(crate) async fn sample(state: Arc<State>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sample = Sample::look(&state.counters);
        state.sampler.lock().add(sample);
        state.heart.lock().beat();
        for worker in 0..state.crew.len() {
            let state = Arc::clone(&state);
            tokio::spawn(async move {
                let counts = state.crew.ask(worker, |reply| Task::TopTopics { reply }).await;
                if let Ok(counts) = counts {
                    state.sampler.lock().heard(counts);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: Instant, published: u64) -> Sample {
        let totals = Totals {
            published,
            ..Totals::default()
        };
        Sample {
            at,
            workers: vec![totals, totals],
            times: AllTimes::default(),
        }
    }

    fn count(topic: &str, messages: u64, error: u64) -> TopicCount {
        TopicCount {
            topic: topic.to_owned(),
            messages,
            octets: 10 * messages,
            error,
        }
    }

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let (mut sampler, start) = (Sampler::new(), Instant::now());
        assert!(sampler.change().is_none());
        for second in 0..20 {
            // Ten a second at first, then a hundred.
            let published = if second < 10 {
                10 * second
            } else {
                100 * (second - 9) + 90
            };
            sampler.add(sample(start + Duration::from_secs(second), published));
        }
        let change = sampler.change().unwrap();
        assert_eq!(change.rate_of(1, |totals| totals.published), 100.0);
        assert_eq!(change.rate(|totals| totals.published), 200.0);
        assert!(sampler.samples.len() <= 7, "{} are kept", sampler.samples.len());
    }

    #[test]
    fn topics_are_ranked_by_what_is_published_to_them_now() {
        let (mut sampler, start) = (Sampler::new(), Instant::now());
        sampler.add(sample(start, 0));
        sampler.heard(vec![count("once", 1000, 0)]);
        for second in 1..100 {
            sampler.add(sample(start + Duration::from_secs(second), 0));
            sampler.heard(vec![count("steady", 50, 0), count("doubtful", 1000, 999)]);
        }
        let top = sampler.top_topics(2);
        assert_eq!(
            top.iter().map(|rate| &*rate.topic).collect::<Vec<_>>(),
            ["steady", "doubtful"]
        );
        assert!(
            (top[0].messages - 50.0).abs() < 5.0 && (top[0].octets - 500.0).abs() < 50.0,
            "{top:?}"
        );
    }

    #[test]
    fn few_topics_are_remembered_of_many() {
        let mut sampler = Sampler::new();
        sampler.heard(vec![count("hot", 1000, 0)]);
        for number in 0..10 * MOST_TOPICS {
            sampler.heard(vec![count(&number.to_string(), 1, 0)]);
        }
        assert!(sampler.topics.len() <= MOST_TOPICS);
        assert_eq!(sampler.top_topics(1)[0].topic, "hot");
    }
}
