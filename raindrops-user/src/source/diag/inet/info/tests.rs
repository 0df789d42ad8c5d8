use super::{RETRANSMITS, parse};
use crate::snapshot::connections::TcpInfo;

/// Of a connection on loopback, as Linux 6.18 on x86-64 sent it, up to the last field that is read and
/// some of what follows. Its client had sent 1,000 bytes, taken 70, and closed.
#[rustfmt::skip]
pub(in super::super) const INFO: [u8; 160] = [
    8,                          // tcpi_state: CLOSE_WAIT
    0,                          // tcpi_ca_state
    0,                          // tcpi_retransmits
    0,                          // tcpi_probes
    0,                          // tcpi_backoff
    7,                          // tcpi_options
    170,                        // tcpi_snd_wscale, tcpi_rcv_wscale
    1,                          // tcpi_delivery_rate_app_limited, tcpi_fastopen_client_fail
    224, 28, 3, 0,              // tcpi_rto: 204,000 us
    64, 156, 0, 0,              // tcpi_ato: 40,000 us
    0, 128, 0, 0,               // tcpi_snd_mss: 32,768
    232, 3, 0, 0,               // tcpi_rcv_mss: 1,000
    0, 0, 0, 0,                 // tcpi_unacked
    0, 0, 0, 0,                 // tcpi_sacked
    0, 0, 0, 0,                 // tcpi_lost
    0, 0, 0, 0,                 // tcpi_retrans
    0, 0, 0, 0,                 // tcpi_fackets
    152, 0, 0, 0,               // tcpi_last_data_sent: 152 ms
    0, 0, 0, 0,                 // tcpi_last_ack_sent
    152, 0, 0, 0,               // tcpi_last_data_recv: 152 ms
    104, 0, 0, 0,               // tcpi_last_ack_recv: 104 ms
    255, 255, 0, 0,             // tcpi_pmtu: 65,535
    29, 18, 1, 0,               // tcpi_rcv_ssthresh: 70,173
    51, 0, 0, 0,                // tcpi_rtt: 51 us
    29, 0, 0, 0,                // tcpi_rttvar: 29 us
    255, 255, 255, 127,         // tcpi_snd_ssthresh
    11, 0, 0, 0,                // tcpi_snd_cwnd: 11
    203, 255, 0, 0,             // tcpi_advmss: 65,483
    3, 0, 0, 0,                 // tcpi_reordering
    0, 0, 0, 0,                 // tcpi_rcv_rtt
    203, 255, 0, 0,             // tcpi_rcv_space
    0, 0, 0, 0,                 // tcpi_total_retrans
    209, 182, 64, 211, 3, 0, 0, 0, // tcpi_pacing_rate
    255, 255, 255, 255, 255, 255, 255, 255, // tcpi_max_pacing_rate
    70, 0, 0, 0, 0, 0, 0, 0,    // tcpi_bytes_acked: 70
    233, 3, 0, 0, 0, 0, 0, 0,   // tcpi_bytes_received: 1,001, the client's FIN is one
    3, 0, 0, 0,                 // tcpi_segs_out
    5, 0, 0, 0,                 // tcpi_segs_in
    0, 0, 0, 0,                 // tcpi_notsent_bytes
    9, 0, 0, 0,                 // tcpi_min_rtt
    1, 0, 0, 0,                 // tcpi_data_segs_in
    1, 0, 0, 0,                 // tcpi_data_segs_out
];

const READ: TcpInfo = TcpInfo {
    retransmits: Some(0),
    unacked: Some(0),
    last_data_sent_ms: Some(152),
    last_data_received_ms: Some(152),
    rtt_us: Some(51),
    rttvar_us: Some(29),
    snd_cwnd: Some(11),
    total_retransmits: Some(0),
    bytes_acked: Some(70),
    bytes_received: Some(1001),
    notsent_bytes: Some(0),
};

// The fixture holds numbers as a little-endian host does.
#[cfg(target_endian = "little")]
#[test]
fn older_kernels_give_less() {
    let before_4_6 = TcpInfo {
        notsent_bytes: None,
        ..READ
    };
    let before_4_1 = TcpInfo {
        bytes_acked: None,
        bytes_received: None,
        ..before_4_6
    };
    let without_time = TcpInfo {
        rtt_us: None,
        rttvar_us: None,
        snd_cwnd: None,
        total_retransmits: None,
        ..before_4_1
    };
    for (length, expected) in [
        (INFO.len(), READ),
        (148, READ),
        (147, before_4_6),
        (136, before_4_6),
        (120, before_4_1),
        (71, without_time),
        (RETRANSMITS, TcpInfo::default()),
        (0, TcpInfo::default()),
    ] {
        assert_eq!(parse(&INFO[..length]), expected, "{length} bytes");
    }
}

#[cfg(target_endian = "little")]
#[test]
fn each_field_is_read_from_its_place() {
    let mut info = INFO;
    for (at, byte) in info.iter_mut().enumerate() {
        *byte = at as u8;
    }
    let word = |at: u8| Some(u32::from_le_bytes([at, at + 1, at + 2, at + 3]));
    let long = |at: u8| {
        let bytes: [u8; 8] = std::array::from_fn(|index| at + index as u8);
        Some(u64::from_le_bytes(bytes))
    };
    let expected = TcpInfo {
        retransmits: Some(2),
        unacked: word(24),
        last_data_sent_ms: word(44),
        last_data_received_ms: word(52),
        rtt_us: word(68),
        rttvar_us: word(72),
        snd_cwnd: word(80),
        total_retransmits: word(100),
        bytes_acked: long(120),
        bytes_received: long(128),
        notsent_bytes: word(144),
    };
    assert_eq!(parse(&info), expected);
}
