//! Two hubs on a Redis that sentinels watch.

use crate::{
    load::{check_under_load, node},
    support::sentinel::Watched,
};

#[test]
fn a_master_that_dies_is_followed_and_nothing_is_lost_that_was_taken_into_a_room_with_history() {
    let mut redis = Watched::start();
    let hubs = [node(&redis.url()), node(&redis.url())];
    check_under_load(&hubs, ["kept", "plain"], || redis.fail_over());
}
