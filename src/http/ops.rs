//! What operators and their tools ask: alive, ready, how much.

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
    web::Data,
};

use super::door::Door;

/// The text format that Prometheus negotiates as OpenMetrics 1.0.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(serde_json::json!({ "status": "ok" }))
}

/// 503 while the broker's subscription is not proven, and while draining.
pub async fn readyz(door: Data<Door>) -> HttpResponse {
    let readiness = &door.readiness;
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    HttpResponse::build(status).insert_header((header::CACHE_CONTROL, "no-store")).json(serde_json::json!({
        "ready": readiness.is_ready(),
        "broker": if readiness.is_broker_up() { "up" } else { "down" },
        "draining": readiness.is_draining(),
    }))
}

pub async fn metrics(door: Data<Door>) -> HttpResponse {
    HttpResponse::Ok().content_type(METRICS_TYPE).insert_header((header::CACHE_CONTROL, "no-store")).body(door.metrics.render())
}
