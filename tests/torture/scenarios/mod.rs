//! All scenarios. The quick tier runs them in this order: the longest first.

mod crowds;
mod deaths;
mod fan_out;
mod outages;
mod presence;
mod slow;
mod truth;
mod wear;

use crate::trial::Scenario;

pub const ALL: &[Scenario] = &[
    Scenario { name: "presence_converges", run: presence::presence_converges },
    Scenario { name: "soak", run: wear::soak },
    Scenario { name: "redis_stopped", run: outages::redis_stopped },
    Scenario { name: "redis_killed", run: outages::redis_killed },
    Scenario { name: "sentinel_failover", run: outages::sentinel_failover },
    Scenario { name: "output_buffer_killed", run: outages::output_buffer_killed },
    Scenario { name: "node_killed", run: deaths::node_killed },
    Scenario { name: "drain", run: deaths::drain },
    Scenario { name: "fan_out", run: fan_out::fan_out },
    Scenario { name: "recovery_storm", run: crowds::recovery_storm },
    Scenario { name: "reconnect_herd", run: crowds::reconnect_herd },
    Scenario { name: "never_readers", run: slow::never_readers },
    Scenario { name: "publisher_flood", run: slow::publisher_flood },
    Scenario { name: "connect_cycles", run: wear::connect_cycles },
    Scenario { name: "honest_non_recovery", run: truth::honest_non_recovery },
];
