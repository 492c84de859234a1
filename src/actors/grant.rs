//! What a connection may, and for how long: its grant ends, is renewed by the client, or is asked about again.

use std::{sync::Arc, time::Duration};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::time::Instant;

use super::{
    connection::{Connection, registry_is_gone},
    messages::{Refusal, Renew},
};
use crate::{
    auth::{Recheck, Standing, unix_now},
    protocol::{CloseReason, ErrorCode, Reference, Reply},
};

/// A grant that ends later than this is looked at again then.
const EXPIRY_CHECK: Duration = Duration::from_secs(60 * 60);

impl Connection {
    /// A new token in place of the one that the connection began with.
    pub(super) fn renew(&self, token: Box<str>, reference: Reference, ctx: &mut Context<Self>) {
        let (options, connection, before) = (Arc::clone(&self.parts.options), self.parts.id, Arc::clone(&self.parts.identity));
        let renewed = async move {
            let verified = options.keyring.verify(&token).await;
            let identity = verified.map_err(|error| Refusal::new(ErrorCode::Unauthorized, error.to_string()))?;
            let identity = Arc::new(identity).in_place_of(&before);
            let order = Renew { connection, identity: Arc::clone(&identity) };
            options.registry.send(order).await.unwrap_or_else(|_| Err(registry_is_gone()))?;
            Ok(identity)
        };
        ctx.spawn(renewed.into_actor(self).map(|renewed, connection, ctx| match renewed {
            Ok(identity) => {
                connection.parts.identity = identity;
                connection.watch_expiry(ctx);
                connection.say(&Reply::Ack { id: None, reference });
            }
            Err(refusal) => connection.refuse(refusal, reference),
        }));
    }

    /// Ends the connection with its grant, and has the one who vouches for the client asked again, whichever comes first.
    pub(super) fn watch_expiry(&mut self, ctx: &mut Context<Self>) {
        let question = self.parts.identity.recheck.as_ref().map(|recheck| Instant::now() + recheck.after);
        self.watch_until(question, ctx);
    }

    fn watch_until(&mut self, question: Option<Instant>, ctx: &mut Context<Self>) {
        if let Some(replaced) = self.expiry.take() {
            ctx.cancel_future(replaced);
        }
        // The timer does not follow a clock that is set, so it looks again now and then.
        let to_end = self.parts.identity.end().map(|end| Duration::from_secs(end.saturating_sub(unix_now())).min(EXPIRY_CHECK));
        let to_question = question.map(|question| question.saturating_duration_since(Instant::now()));
        let Some(rest) = to_end.into_iter().chain(to_question).min() else { return };
        self.expiry = Some(ctx.run_later(rest, move |connection, ctx| connection.look_at_grant(question, ctx)));
    }

    fn look_at_grant(&mut self, question: Option<Instant>, ctx: &mut Context<Self>) {
        let is_due = question.is_some_and(|question| question <= Instant::now());
        match self.parts.identity.recheck.clone().filter(|_| is_due) {
            _ if self.parts.identity.end().is_some_and(|end| end <= unix_now()) => self.say_goodbye(CloseReason::Expired),
            Some(recheck) => self.check_standing(&recheck, ctx),
            None => self.watch_until(question, ctx),
        }
    }

    /// A token that is shown meanwhile replaces the question with the grant.
    fn check_standing(&mut self, recheck: &Recheck, ctx: &mut Context<Self>) {
        let (options, connection, asked) = (Arc::clone(&self.parts.options), self.parts.id, recheck.ask());
        let before = Arc::clone(&self.parts.identity);
        let checked = async move {
            let identity = match asked.await {
                Standing::Granted(identity) => identity.in_place_of(&before),
                Standing::Denied => return Err(Refusal::new(ErrorCode::Unauthorized, "no longer known")),
                Standing::Unknown => return Ok(None),
            };
            let order = Renew { connection, identity: Arc::clone(&identity) };
            options.registry.send(order).await.unwrap_or_else(|_| Err(registry_is_gone()))?;
            Ok(Some(identity))
        };
        let settled = checked.into_actor(self).map(|checked, connection, ctx| match checked {
            Ok(identity) => {
                connection.parts.identity = identity.unwrap_or_else(|| Arc::clone(&connection.parts.identity));
                connection.watch_expiry(ctx);
            }
            Err(_) => connection.say_goodbye(CloseReason::Expired),
        });
        self.expiry = Some(ctx.spawn(settled));
    }
}
