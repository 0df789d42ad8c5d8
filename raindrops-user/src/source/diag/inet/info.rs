//! `struct tcp_info`, read from bytes.
//!
//! By offset, because it has grown since: an older kernel's is shorter, a newer one's longer, and what
//! is there is always in the same place
//! (<https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/tcp.h>).

use crate::snapshot::connections::TcpInfo;

// Offsets of fields, by their names in the struct.
const RETRANSMITS: usize = 2;
const UNACKED: usize = 24;
const LAST_DATA_SENT: usize = 44;
const LAST_DATA_RECV: usize = 52;
const RTT: usize = 68;
const RTTVAR: usize = 72;
const SND_CWND: usize = 80;
const TOTAL_RETRANS: usize = 100;
/// Since Linux 4.1, like the next.
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;
/// Since Linux 4.6.
const NOTSENT_BYTES: usize = 144;

/// The value of `INET_DIAG_INFO`.
pub(super) fn parse(info: &[u8]) -> TcpInfo {
    TcpInfo {
        retransmits: info.get(RETRANSMITS).copied(),
        unacked: u32_at(info, UNACKED),
        last_data_sent_ms: u32_at(info, LAST_DATA_SENT),
        last_data_received_ms: u32_at(info, LAST_DATA_RECV),
        rtt_us: u32_at(info, RTT),
        rttvar_us: u32_at(info, RTTVAR),
        snd_cwnd: u32_at(info, SND_CWND),
        total_retransmits: u32_at(info, TOTAL_RETRANS),
        bytes_acked: u64_at(info, BYTES_ACKED),
        bytes_received: u64_at(info, BYTES_RECEIVED),
        notsent_bytes: u32_at(info, NOTSENT_BYTES),
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let value = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*value))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let value = bytes.get(offset..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*value))
}

#[cfg(test)]
pub(super) mod tests;
