//! All scenarios. The quick tier runs them in this order: the longest first.

mod deaths;
mod fan_out;
mod outages;

use crate::trial::Scenario;

pub const ALL: &[Scenario] = &[
    Scenario { name: "redis_killed", run: outages::redis_killed },
    Scenario { name: "redis_stopped", run: outages::redis_stopped },
    Scenario { name: "node_killed", run: deaths::node_killed },
    Scenario { name: "fan_out", run: fan_out::fan_out },
];
