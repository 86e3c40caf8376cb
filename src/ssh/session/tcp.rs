//! The TCP connection to a server.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{TCP_LIMIT, within};
use crate::ssh::{Endpoint, SshError, Step};

pub(super) async fn open(endpoint: &Endpoint) -> Result<TcpStream, SshError> {
    let lookup = lookup_host((endpoint.host.as_str(), endpoint.port));
    let addresses: Vec<SocketAddr> = within(TCP_LIMIT, Step::Resolve, endpoint, lookup)
        .await?
        .map_err(|error| SshError::Resolve {
            host: endpoint.host.clone(),
            source: Arc::new(error),
        })?
        .collect();
    let stream = within(TCP_LIMIT, Step::Tcp, endpoint, connect(&addresses))
        .await?
        .map_err(|error| SshError::Unreachable {
            endpoint: endpoint.clone(),
            source: Arc::new(error),
        })?;
    // Without it every small packet waits for the answer to the one before.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Connects to the first of a name's addresses that answers. Each has its share of the time, so that one that leads
/// nowhere keeps none of the others back.
async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let Some((last, others)) = addresses.split_last() else {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    };
    let share = TCP_LIMIT / u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in others {
        if let Ok(Ok(stream)) = timeout(share, TcpStream::connect(address)).await {
            return Ok(stream);
        }
    }
    TcpStream::connect(last).await
}

#[cfg(test)]
mod tests {
    use std::{iter, net::Ipv4Addr, time::Duration};

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn an_address_that_leads_nowhere_keeps_no_other_back() {
        // Linux lets so many wait to be taken, and answers nobody else.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let mute = socket.listen(0).unwrap();
        let place = mute.local_addr().unwrap();
        let moment = Duration::from_millis(500);
        let waiting: Vec<_> =
            iter::from_fn(|| std::net::TcpStream::connect_timeout(&place, moment).ok()).collect();
        assert!(!waiting.is_empty());

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let other = listener.local_addr().unwrap();
        let stream = timeout(TCP_LIMIT, connect(&[place, other])).await;
        assert_eq!(stream.unwrap().unwrap().peer_addr().unwrap(), other);
    }
}
