//! What a good engineer writes with tokio and tungstenite: a task for each connection, a `tokio::sync::broadcast` for
//! each topic.
//!
//! The path names the topic, `/t/TOPIC`; `?mode=pub` publishes, anything else subscribes. What is there goes out with
//! one flush: a flush for each message makes the server twenty times slower.
//!
//! `tokio-broadcast <port> [--threads N]`

#![forbid(unsafe_code)]

use std::error::Error;
use std::sync::Arc;

use dashmap::DashMap;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::broadcast::{self, Receiver, Sender, error::RecvError};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

/// Messages that a subscriber may be behind before it loses some: more than any load here has in flight.
const CAPACITY: usize = 4096;
/// Messages that go out with one flush, at most: between two of these the connection is read.
const BATCH: usize = 1024;
/// Octets that are read at a time. tungstenite fills its buffer with zeros before every attempt to read: with its
/// default, 128 KiB, a delivery of one message took five times as long.
const READ_BUFFER: usize = 4 * 1024;

type Topics = Arc<DashMap<String, Sender<Message>>>;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut port, mut threads) = (8081_u16, 1_usize);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--threads" {
            threads = arguments.next().ok_or("--threads wants a number")?.parse()?;
        } else {
            port = argument.parse()?;
        }
    }
    // One thread needs no scheduler that steals.
    let mut builder = match threads {
        1 => runtime::Builder::new_current_thread(),
        _ => runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(threads).enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        println!("listening on {}", listener.local_addr()?);
        let topics = Topics::default();
        // On the runtime's threads, not on the one that waits for it.
        tokio::spawn(accept(listener, topics)).await??;
        Ok(())
    })
}

async fn accept(listener: TcpListener, topics: Topics) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let topics = topics.clone();
        tokio::spawn(async move {
            // Whether it went away politely makes no difference here.
            let _ = serve(stream, &topics).await;
        });
    }
}

// The error of a callback is a whole response, as tungstenite has it.
#[allow(clippy::result_large_err)]
async fn serve(stream: TcpStream, topics: &Topics) -> Result<(), tungstenite::Error> {
    let mut topic = String::new();
    let mut publishes_only = false;
    let of_request = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let path = request.uri().path();
        topic = path.strip_prefix("/t/").unwrap_or(path).to_owned();
        publishes_only = request.uri().query() == Some("mode=pub");
        Ok(response)
    };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    let socket = tokio_tungstenite::accept_hdr_async_with_config(stream, of_request, Some(config)).await?;
    let sender = topics
        .entry(topic.clone())
        .or_insert_with(|| broadcast::channel(CAPACITY).0)
        .clone();
    let result = if publishes_only {
        publish(socket, &sender).await
    } else {
        subscribe(socket, &sender).await
    };
    drop(sender);
    // Only the map's own is left: nobody publishes to the topic or waits for it.
    topics.remove_if(&topic, |_, sender| {
        sender.strong_count() == 1 && sender.receiver_count() == 0
    });
    result
}

async fn publish(mut socket: WebSocketStream<TcpStream>, sender: &Sender<Message>) -> Result<(), tungstenite::Error> {
    while let Some(message) = socket.next().await {
        pass_on(message?, sender);
    }
    Ok(())
}

async fn subscribe(mut socket: WebSocketStream<TcpStream>, sender: &Sender<Message>) -> Result<(), tungstenite::Error> {
    let mut receiver = sender.subscribe();
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(message) => pass_on(message?, sender),
                None => return Ok(()),
            },
            message = receiver.recv() => match message {
                Ok(message) => deliver(&mut socket, message, &mut receiver).await?,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
        }
    }
}

/// Sends `message` and all that wait behind it, with one flush.
async fn deliver(
    socket: &mut WebSocketStream<TcpStream>,
    message: Message,
    receiver: &mut Receiver<Message>,
) -> Result<(), tungstenite::Error> {
    socket.feed(message).await?;
    for _ in 1..BATCH {
        let Ok(message) = receiver.try_recv() else { break };
        socket.feed(message).await?;
    }
    socket.flush().await
}

fn pass_on(message: Message, sender: &Sender<Message>) {
    if message.is_text() || message.is_binary() {
        // An error says that nobody listens.
        let _ = sender.send(message);
    }
}
