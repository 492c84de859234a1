//! The socketioxide crate as its manual sets it up, for `scripts/bench-others`: `socketioxide-server PORT`. Clients join with
//! `subscribe`; `POST /publish?room=R` with a JSON string sends it to the room as the event `bench`.

use axum::{
    Router,
    extract::{Query, State},
    http::StatusCode,
    routing::post,
};
use serde::Deserialize;
use socketioxide::{
    SocketIo,
    extract::{Data, SocketRef},
};

#[derive(Deserialize)]
struct Publish {
    room: String,
}

async fn publish(State(io): State<SocketIo>, Query(Publish { room }): Query<Publish>, body: String) -> StatusCode {
    let Ok(data) = serde_json::from_str::<String>(&body) else { return StatusCode::BAD_REQUEST };
    match io.to(room).emit("bench", &data).await {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

// One thread, as every server in the comparison.
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse::<u16>().ok()).expect("usage: socketioxide-server PORT");
    let (layer, io) = SocketIo::builder().max_buffer_size(1024).build_layer();
    io.ns("/", async |socket: SocketRef| {
        socket.on("subscribe", async |socket: SocketRef, Data(room): Data<String>| {
            socket.join(room.clone());
            // A client that is gone already needs no answer.
            let _ = socket.emit("joined", &room);
        });
    });
    let app = Router::new().route("/publish", post(publish)).with_state(io).layer(layer);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(axum::serve::ListenerExt::tap_io(listener, |socket| drop(socket.set_nodelay(true))), app).await
}
