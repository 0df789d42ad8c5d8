//! A layer for axum that counts requests, those that are being answered, and how long that took.
//!
//! `cargo run --example axum -- 127.0.0.1:3000 /run/raindrops/slabs/UID/axum.slab`; without a path the
//! counters are memory of this process, which is as good for looking at it.

use std::{
    env,
    error::Error,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use raindrops_slab::{Counter, Field, Gauge, Histogram, Schema, Shared, Slab, SlabError, Unit};

/// The counters of this process. One slot, because tasks move from thread to thread.
struct Counters {
    requests: Counter<Shared>,
    calling: Gauge<Shared>,
    answer: Histogram<Shared>,
}

impl Counters {
    fn claim(slab: &Slab) -> Result<Self, SlabError> {
        let slot = slab.claim_shared()?;
        Ok(Self {
            requests: slot.counter("requests")?,
            calling: slot.gauge("calling")?,
            answer: slot.histogram("answer")?,
        })
    }
}

/// The layer. A client that leaves drops the future, and with it what is held.
async fn count(State(counters): State<Arc<Counters>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let _calling = counters.calling.hold();
    counters.requests.add(1);
    let response = next.run(request).await;
    let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    counters.answer.record(took);
    response
}

fn slab(path: Option<&Path>) -> Result<Slab, Box<dyn Error>> {
    let fields = [
        Field::counter("requests", Unit::NONE),
        Field::gauge("calling", Unit::NONE),
        Field::histogram("answer", Unit::new("us")?, 60_000_000),
    ];
    let schema = Schema::new("axum", 4, fields)?;
    Ok(match path {
        Some(path) => Slab::create(path, &schema)?,
        None => Slab::in_memory(&schema)?,
    })
}

async fn hello() -> &'static str {
    "hi\n"
}

async fn sleep() -> &'static str {
    tokio::time::sleep(Duration::from_secs(60)).await;
    "slept\n"
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let address = arguments.next().ok_or("usage: axum ADDRESS:PORT [SLAB]")?;
    let address = address.into_string().map_err(|_| "no address")?;
    let path = arguments.next();
    let slab = slab(path.as_deref().map(Path::new))?;
    let counters = Arc::new(Counters::claim(&slab)?);
    let app = Router::new()
        .route("/", get(hello))
        .route("/sleep", get(sleep))
        .layer(middleware::from_fn_with_state(counters, count));
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
