//! May this client join this room, or publish to it? Pure: an identity, a rule and a name in, yes or why not out.

use thiserror::Error;

use super::Identity;
use crate::{
    config::{JoinRule, PublishRule, RoomRule},
    protocol::{RoomName, RoomPattern},
};

/// Why not. The text names the rule, which the name alone chose: it is the same whether or not such a room has ever existed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    #[error("the rule for \"{0}\" lets only identified users join")]
    JoinNeedsUser(RoomPattern),
    #[error("the rule for \"{0}\" lets only those join who are granted it")]
    JoinNeedsGrant(RoomPattern),
    #[error("the rule for \"{0}\" lets no client publish")]
    PublishIsClosed(RoomPattern),
    #[error("the rule for \"{0}\" lets only members publish")]
    PublishNeedsMembership(RoomPattern),
    #[error("the rule for \"{0}\" lets only identified members publish")]
    PublishNeedsUser(RoomPattern),
    #[error("the rule for \"{0}\" lets only those publish who are granted it")]
    PublishNeedsGrant(RoomPattern),
}

/// May it join?
pub fn may_join(identity: &Identity, room: &RoomName, rule: &RoomRule) -> Result<(), Refused> {
    let pattern = || rule.pattern.clone();
    match rule.join {
        JoinRule::User if identity.is_anonymous() => Err(Refused::JoinNeedsUser(pattern())),
        JoinRule::Granted if !grants(identity.join.as_deref(), room) && !is_signed(identity, room) => {
            Err(Refused::JoinNeedsGrant(pattern()))
        }
        JoinRule::Anyone | JoinRule::User | JoinRule::Granted => Ok(()),
    }
}

/// May it publish? A grant needs no membership: a device may report into a room that it may not read.
pub fn may_publish(identity: &Identity, room: &RoomName, rule: &RoomRule, is_member: bool) -> Result<(), Refused> {
    let pattern = || rule.pattern.clone();
    match rule.publish {
        PublishRule::Nobody => Err(Refused::PublishIsClosed(pattern())),
        PublishRule::Members if !is_member => Err(Refused::PublishNeedsMembership(pattern())),
        PublishRule::User if !is_member || identity.is_anonymous() => Err(Refused::PublishNeedsUser(pattern())),
        PublishRule::Granted if !grants(identity.publish.as_deref(), room) => Err(Refused::PublishNeedsGrant(pattern())),
        PublishRule::Members | PublishRule::User | PublishRule::Granted => Ok(()),
    }
}

fn is_signed(identity: &Identity, room: &RoomName) -> bool {
    identity.signed.as_ref().is_some_and(|signed| signed.contains(room))
}

fn grants(patterns: Option<&[RoomPattern]>, room: &RoomName) -> bool {
    patterns.unwrap_or_default().iter().any(|pattern| pattern.matches(room.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(join: JoinRule, publish: PublishRule) -> RoomRule {
        RoomRule { join, publish, ..RoomRule::new(RoomPattern::parse("chat/*").expect("a pattern")) }
    }

    fn identity(user: Option<&str>, grants: &[&str]) -> Identity {
        let patterns: Vec<RoomPattern> = grants.iter().map(|text| text.parse().expect("a pattern")).collect();
        Identity {
            user: user.map(|name| name.parse().expect("a name")),
            join: Some(patterns.clone()),
            publish: Some(patterns),
            ..Identity::anonymous()
        }
    }

    fn room() -> RoomName {
        RoomName::parse("chat/7").expect("a name")
    }

    #[test]
    fn who_may_join() {
        let anonymous = Identity::anonymous();
        let (alice, guest) = (identity(Some("alice"), &[]), identity(None, &["chat/*"]));
        let granted = identity(Some("bob"), &["news", "chat/7"]);
        for (join, allowed) in [
            (JoinRule::Anyone, [true, true, true, true]),
            (JoinRule::User, [false, true, false, true]),
            (JoinRule::Granted, [false, false, true, true]),
        ] {
            let rule = rule(join, PublishRule::Nobody);
            let found = [&anonymous, &alice, &guest, &granted].map(|identity| may_join(identity, &room(), &rule).is_ok());
            assert_eq!(found, allowed, "{join:?}");
        }
    }

    #[test]
    fn who_may_publish_as_a_member_and_as_none() {
        let anonymous = Identity::anonymous();
        let (alice, granted) = (identity(Some("alice"), &[]), identity(None, &["chat/*"]));
        for (publish, as_member, as_none) in [
            (PublishRule::Nobody, [false, false, false], [false, false, false]),
            (PublishRule::Members, [true, true, true], [false, false, false]),
            (PublishRule::User, [false, true, false], [false, false, false]),
            (PublishRule::Granted, [false, false, true], [false, false, true]),
        ] {
            let rule = rule(JoinRule::Anyone, publish);
            for (is_member, allowed) in [(true, as_member), (false, as_none)] {
                let found = [&anonymous, &alice, &granted].map(|identity| may_publish(identity, &room(), &rule, is_member).is_ok());
                assert_eq!(found, allowed, "{publish:?}, member: {is_member}");
            }
        }
    }

    #[test]
    fn a_refusal_names_the_rule_and_not_the_room() {
        let refused = may_join(&Identity::anonymous(), &room(), &rule(JoinRule::Granted, PublishRule::Nobody)).expect_err("no grant");
        assert_eq!(refused.to_string(), "the rule for \"chat/*\" lets only those join who are granted it");
        assert!(!refused.to_string().contains("chat/7"));
    }
}
