//! Publishing as the registry and the door ask for it: sent through the broker, once under each idempotency key, and answered when
//! it came down here.

use std::sync::Arc;

use actix::{AsyncContext, Context, Handler, Message, ResponseFuture};
use bytes::Bytes;
use futures_util::{
    TryFutureExt,
    future::{self, LocalBoxFuture},
};

use super::{RedisBridge, duplicate_key, random_id, route::Route};
use crate::{
    actors::messages::{BrokerError, Publish, Published},
    broker::{claims::Claim, link::Once},
    protocol::dialect::{MAX_BINARY_PAYLOAD_BYTES, callboard},
};

impl Handler<Publish> for RedisBridge {
    type Result = ResponseFuture<Result<Published, BrokerError>>;

    fn handle(&mut self, order: Publish, ctx: &mut Context<Self>) -> Self::Result {
        self.publish(order, false, ctx)
    }
}

/// To itself: what was published under this claim reached nobody.
#[derive(Message)]
#[rtype(result = "()")]
struct GiveUp(Claim);

impl Handler<GiveUp> for RedisBridge {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, GiveUp(claim): GiveUp, _: &mut Context<Self>) -> Self::Result {
        self.link.as_mut().map_or_else(|| Box::pin(future::ready(())) as ResponseFuture<()>, |link| link.release(claim))
    }
}

impl RedisBridge {
    pub(super) fn publish(
        &mut self,
        order: Publish,
        is_part: bool,
        ctx: &mut Context<Self>,
    ) -> ResponseFuture<Result<Published, BrokerError>> {
        let Publish { targets, mut event, except, idempotency_key: key } = order;
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
        let duplicate_key = (is_part || targets.len() > 1).then(|| duplicate_key(&id));
        let payload = Bytes::from(callboard::encode(&event, &except, duplicate_key));
        let limit = if event.attachments.is_empty() { callboard::largest(&id) } else { MAX_BINARY_PAYLOAD_BYTES };
        if payload.len() > limit {
            return Box::pin(future::ready(Err(BrokerError::TooLarge { bytes: payload.len(), limit })));
        }
        let channels: Vec<_> = targets.iter().map(|target| self.native_channel(target)).collect();
        let is_ours: Vec<_> = targets.iter().zip(&channels).map(|(target, channel)| self.is_confirmed(target, channel)).collect();
        let told = self.expect_receipt(&id, &targets, &channels, ctx);
        let Some(link) = &mut self.link else { return Box::pin(future::ready(Err(BrokerError::Unavailable))) };
        let claim = key.map(|key| Claim { key, id: id.clone() });
        let sent: LocalBoxFuture<'static, _> = match claim.clone() {
            None => Box::pin(link.publish(channels, payload).map_ok(Once::Sent)),
            Some(claim) => link.publish_once(claim, channels, payload),
        };
        let bridge = ctx.address();
        Box::pin(async move {
            let sent = sent.await?;
            drop(permit);
            let listeners = match sent {
                Once::Sent(listeners) => listeners,
                Once::Known(id) => return Ok(Published { id, delivered: 0 }),
            };
            // We listen, and yet nobody did: a primary that hands over still takes what it no longer delivers.
            if told.is_some() && listeners.iter().zip(is_ours).any(|(listeners, is_ours)| is_ours && *listeners == 0) {
                if let Some(claim) = claim {
                    // An error says that the bridge is gone; then the key runs out by itself.
                    _ = bridge.send(GiveUp(claim)).await;
                }
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
