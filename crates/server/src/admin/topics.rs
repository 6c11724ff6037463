//! `/v1/topics`: what is subscribed to.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer::{Failure, Problem, Query, check_limit, hundred};
use super::{State, search};

/// Which topics are told.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TopicQuery {
    /// Those that begin with this.
    #[serde(default)]
    prefix: String,
    /// `subscribers`: those with most come first; else they are in the order of the alphabet.
    #[serde(default)]
    sort: TopicOrder,
    /// At most so many, 1 to 1000.
    #[serde(default = "hundred")]
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: usize,
}

/// How topics are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TopicOrder {
    /// By the alphabet.
    #[default]
    Name,
    /// By how many subscribe.
    Subscribers,
}

/// What is subscribed to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Topics {
    /// Topics and filters with subscribers.
    topics: Vec<TopicCount>,
    /// How many there are in all that were asked for.
    total: usize,
    /// There are more than could be looked at: give a longer prefix.
    truncated: bool,
}

/// A topic, or filter, and its subscribers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopicCount {
    /// The topic, or the filter.
    filter: String,
    /// How many connections subscribe to it.
    subscribers: usize,
}

/// List topics and filters with how many subscribe to them
#[utoipa::path(get, path = "/v1/topics", params(TopicQuery), responses(
    (status = 200, body = Topics),
    (status = 400, description = "A parameter is wrong", body = Problem),
    (status = 503, description = "A worker is overloaded", body = Problem),
))]
pub(crate) async fn topics(
    Extract(state): Extract<Arc<State>>,
    Query(query): Query<TopicQuery>,
) -> Result<Json<Topics>, Failure> {
    check_limit(query.limit)?;
    let (found, truncated) = search::filters(&state.crew, &query.prefix).await?;
    let total = found.len();
    let mut topics: Vec<TopicCount> = found
        .into_iter()
        .map(|(filter, subscribers)| TopicCount { filter, subscribers })
        .collect();
    if query.sort == TopicOrder::Subscribers {
        // Stable: those with as many stay in the order of the alphabet.
        topics.sort_by_key(|topic| std::cmp::Reverse(topic.subscribers));
    }
    topics.truncate(query.limit);
    Ok(Json(Topics {
        topics,
        total,
        truncated,
    }))
}
