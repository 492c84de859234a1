//! Publishing as the registry and the door ask for it: claimed once, sent through the broker, and answered when it came down here.

use std::sync::Arc;

use actix::{AsyncContext, Context, Handler, Message, ResponseFuture};
use bytes::Bytes;
use futures_util::future;
use tokio::time::Instant;

use super::{RedisBridge, duplicate_key, random_id, route::Route};
use crate::{
    actors::messages::{BrokerError, Publish, Published},
    protocol::dialect::{MAX_BINARY_PAYLOAD_BYTES, callboard},
};

impl Handler<Publish> for RedisBridge {
    type Result = ResponseFuture<Result<Published, BrokerError>>;

    fn handle(&mut self, mut order: Publish, ctx: &mut Context<Self>) -> Self::Result {
        let Some(key) = order.idempotency_key.take() else { return self.publish(order, false, ctx) };
        let id = match order.event.id.take().map_or_else(random_id, Ok) {
            Ok(id) => id,
            Err(error) => return Box::pin(future::ready(Err(error))),
        };
        order.event.id = Some(id.clone());
        let archive = self.desk.archive.clone();
        let claimed = match &archive {
            Some(archive) => archive.claim(&key, &id),
            None => Box::pin(future::ready(Ok(self.desk.claims.claim(&key, &id, Instant::now())))),
        };
        let bridge = ctx.address();
        Box::pin(async move {
            if let Some(id) = claimed.await? {
                return Ok(Published { id, delivered: 0 });
            }
            let published = bridge.send(order).await.unwrap_or(Err(BrokerError::Unavailable));
            if published.is_err() {
                match archive {
                    Some(archive) => archive.release(&key).await,
                    // An error says that the bridge is gone, and the claims with it.
                    None => _ = bridge.send(GiveUpClaim(key)).await,
                }
            }
            published
        })
    }
}

/// To itself: the publication failed that was claimed under this key.
#[derive(Message)]
#[rtype(result = "()")]
struct GiveUpClaim(Box<str>);

impl Handler<GiveUpClaim> for RedisBridge {
    type Result = ();

    fn handle(&mut self, GiveUpClaim(key): GiveUpClaim, _: &mut Context<Self>) {
        self.desk.claims.release(&key);
    }
}

impl RedisBridge {
    pub(super) fn publish(
        &mut self,
        order: Publish,
        is_part: bool,
        ctx: &mut Context<Self>,
    ) -> ResponseFuture<Result<Published, BrokerError>> {
        let Publish { targets, mut event, except, .. } = order;
        // What is taken is kept: after an outage that is so from the next marker on, some hundredths of a second later.
        if targets.iter().any(|target| self.routes.get(target).is_some_and(Route::awaits_numbers)) {
            return Box::pin(future::ready(Err(BrokerError::Unavailable)));
        }
        let id = match event.id.take().map_or_else(random_id, Ok) {
            Ok(id) => id,
            Err(error) => return Box::pin(future::ready(Err(error))),
        };
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return Box::pin(future::ready(Err(BrokerError::Overloaded)));
        };
        event.id = Some(id.clone());
        let key = (is_part || targets.len() > 1).then(|| duplicate_key(&id));
        let payload = Bytes::from(callboard::encode(&event, &except, key));
        let limit = if event.attachments.is_empty() { callboard::largest(&id) } else { MAX_BINARY_PAYLOAD_BYTES };
        if payload.len() > limit {
            return Box::pin(future::ready(Err(BrokerError::TooLarge { bytes: payload.len(), limit })));
        }
        let channels: Vec<_> = targets.iter().map(|target| self.native_channel(target)).collect();
        let is_ours: Vec<_> = targets.iter().zip(&channels).map(|(target, channel)| self.is_confirmed(target, channel)).collect();
        let told = self.expect_receipt(&id, &targets, &channels, ctx);
        let Some(link) = &mut self.link else { return Box::pin(future::ready(Err(BrokerError::Unavailable))) };
        let sent = link.publish(channels, payload);
        Box::pin(async move {
            let listeners = sent.await?;
            drop(permit);
            // We listen, and yet nobody did: a primary that hands over still takes what it no longer delivers.
            if told.is_some() && listeners.iter().zip(is_ours).any(|(listeners, is_ours)| is_ours && *listeners == 0) {
                return Err(BrokerError::Unavailable);
            }
            let delivered = match told {
                Some(told) => told.await.unwrap_or_default(),
                None => 0,
            };
            Ok(Published { id, delivered })
        })
    }
}
