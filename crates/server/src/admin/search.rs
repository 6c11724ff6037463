//! What takes several tasks: looking through all workers, and publishing on them.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use tidecast_broker::Refusal;
use tidecast_worker::{ConnectionPage, ConnectionSummary, Publication, Task, Wanted, place_of};

use super::answer::Failure;
use super::crew::{Crew, Unavailable};

/// Filters that are collected for one answer.
const MOST_FILTERS: usize = 100_000;
/// Messages of one task: a worker begins one in a turn.
const MESSAGES_PER_TASK: usize = 256;

/// A place among the connections of all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    worker: usize,
    slot: u32,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.worker, self.slot)
    }
}

impl FromStr for Cursor {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Cursor, Failure> {
        let parse = || {
            let (worker, slot) = text.split_once('-')?;
            Some(Cursor {
                worker: usize::from_str_radix(worker, 16).ok()?,
                slot: u32::from_str_radix(slot, 16).ok()?,
            })
        };
        parse().ok_or_else(|| Failure::bad_request("cursor is none that an answer gave as next"))
    }
}

/// A page of a worker's connections.
async fn page(crew: &Crew, worker: usize, from: u32, wanted: &Wanted) -> Result<ConnectionPage, Unavailable> {
    let wanted = wanted.clone();
    let task = move |reply| Task::Connections { from, wanted, reply };
    crew.ask(worker, task).await
}

/// Connections from a place on, with their workers, and where to go on.
pub(crate) async fn connections(
    crew: &Crew,
    wanted: &Wanted,
    from: Cursor,
    limit: usize,
) -> Result<(Vec<(usize, ConnectionSummary)>, Option<Cursor>), Unavailable> {
    let mut found = Vec::new();
    let mut slot = from.slot;
    for worker in from.worker..crew.len() {
        loop {
            let ConnectionPage { connections, next } = page(crew, worker, slot, wanted).await?;
            for summary in connections {
                if found.len() == limit {
                    let (_, slot) = place_of(&summary.name).unwrap_or_default();
                    return Ok((found, Some(Cursor { worker, slot })));
                }
                found.push((worker, summary));
            }
            match next {
                Some(next) => slot = next,
                None => break,
            }
        }
        slot = 0;
    }
    Ok((found, None))
}

/// The connections for which most waits, of those that are wanted.
pub(crate) async fn furthest_behind(
    crew: &Crew,
    wanted: &Wanted,
    limit: usize,
) -> Result<Vec<(usize, ConnectionSummary)>, Unavailable> {
    let mut found: Vec<(usize, ConnectionSummary)> = Vec::new();
    let mut wanted = wanted.clone();
    // What waits for nobody is behind nothing.
    wanted.waiting = wanted.waiting.max(1);
    for worker in 0..crew.len() {
        let mut from = Some(0);
        while let Some(slot) = from {
            let ConnectionPage { connections, next } = page(crew, worker, slot, &wanted).await?;
            found.extend(connections.into_iter().map(|summary| (worker, summary)));
            found.sort_by_key(|(_, summary)| std::cmp::Reverse(summary.waiting));
            found.truncate(limit);
            from = next;
        }
    }
    Ok(found)
}

/// Filters that begin with `prefix` and how many subscribe to each; and whether there are more than could be collected.
pub(crate) async fn filters(crew: &Crew, prefix: &str) -> Result<(BTreeMap<String, usize>, bool), Unavailable> {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut truncated = false;
    for worker in 0..crew.len() {
        let mut from = Some(0);
        while let Some(at) = from {
            let page = crew.ask(worker, move |reply| Task::Filters { from: at, reply }).await?;
            for (filter, count) in page.filters {
                if !filter.as_str().starts_with(prefix) {
                    continue;
                }
                if found.len() >= MOST_FILTERS && !found.contains_key(filter.as_str()) {
                    truncated = true;
                    continue;
                }
                *found.entry(filter.as_str().to_owned()).or_default() += count;
            }
            from = page.next;
        }
    }
    Ok((found, truncated))
}

/// Publishes messages; tells how many were, and which were not.
///
/// Those of a topic go through one worker, so that each comes behind the one before, whoever sent it.
pub(crate) async fn publish(
    crew: &Crew,
    publications: Vec<Publication>,
) -> Result<(usize, Vec<(String, Refusal)>), Unavailable> {
    let mut shares: Vec<Vec<Publication>> = vec![Vec::new(); crew.len()];
    for publication in publications {
        let mut hasher = DefaultHasher::new();
        publication.topic.hash(&mut hasher);
        let worker = hasher.finish() as usize % shares.len();
        shares[worker].push(publication);
    }
    let (mut published, mut refused) = (0, Vec::new());
    for (worker, share) in shares.into_iter().enumerate() {
        for messages in share.chunks(MESSAGES_PER_TASK) {
            let messages: Arc<[Publication]> = messages.into();
            let task = {
                let messages = Arc::clone(&messages);
                |reply| Task::Publish { messages, reply }
            };
            let results = crew.ask(worker, task).await?;
            for (message, result) in std::iter::zip(&*messages, results) {
                match result {
                    Ok(()) => published += 1,
                    Err(refusal) => refused.push((message.topic.clone(), refusal)),
                }
            }
        }
    }
    Ok((published, refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let cursor = Cursor { worker: 17, slot: 4096 };
        assert_eq!(cursor.to_string(), "11-1000");
        assert_eq!("11-1000".parse::<Cursor>().ok(), Some(cursor));
        for text in ["", "1", "1-", "x-1", "1-100000000"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
