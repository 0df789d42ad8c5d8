//! Attaches the programs that follow turns.
//!
//! Apart from the other hooks because all the rest does without them: what the kernel refuses here is
//! only missed.

use raindrops_ebpf::names::program;

use super::Turns;
use crate::{
    causes::with_causes,
    plan::{Off, TurnsPlan, TurnsWay},
    source::bpf::{
        Bpf, BpfError,
        load::{chain, fexits, raw_tracepoint, tracepoints},
    },
};

impl Bpf {
    pub(in crate::source::bpf) fn attach_turns(&mut self, plan: &TurnsPlan) {
        if let Err(error) = self.attach_reads_and_writes(&plan.way) {
            log::error!("continuing without turns: {}", with_causes(&error));
            self.turns = None;
            self.hooks.turns = Err(Off {
                reason: chain(&error),
                grant: match plan.way {
                    TurnsWay::RawTracepoints | TurnsWay::Tracepoints => None,
                    TurnsWay::Functions(_) => {
                        Some("Linux 6.3, which has tracepoints for reads and writes".to_owned())
                    }
                },
            });
            return;
        }
        let (without_ends, with_ends) = match plan.way {
            TurnsWay::RawTracepoints => ("raw_tp", "raw_tp+syscalls"),
            TurnsWay::Tracepoints => ("tracepoint", "tracepoint+syscalls"),
            TurnsWay::Functions(_) => ("fexit", "fexit+syscalls"),
        };
        self.hooks.turns = Ok(without_ends);
        if !plan.sees_ends {
            return;
        }
        match self.attach_ends() {
            Ok(()) => {
                self.hooks.turns = Ok(with_ends);
                if let Some(turns) = &mut self.turns {
                    turns.ends_seen = true;
                }
            }
            Err(error) => self.hooks.refused.push(format!("turns: {error}")),
        }
    }

    fn attach_reads_and_writes(&mut self, way: &TurnsWay) -> Result<(), BpfError> {
        Turns::load_look(&mut self.ebpf, program::COUNT_TURNS)?;
        if let Err(error) = Turns::load_look(&mut self.ebpf, program::LIST_CONNECTIONS) {
            self.hooks.refused.push(format!("connections: {error}"));
        }
        match way {
            TurnsWay::RawTracepoints => {
                raw_tracepoint(&mut self.ebpf, program::DATA_WRITTEN, "sock_send_length")?;
                raw_tracepoint(&mut self.ebpf, program::DATA_READ, "sock_recv_length")
            }
            TurnsWay::Tracepoints => {
                let written = ("sock", "sock_send_length");
                tracepoints(&mut self.ebpf, program::DATA_WRITTEN_TP, &[written])?;
                let read = ("sock", "sock_recv_length");
                tracepoints(&mut self.ebpf, program::DATA_READ_TP, &[read])
            }
            TurnsWay::Functions(functions) => {
                let functions: Vec<_> = functions.iter().map(|name| (*name, *name)).collect();
                fexits(&mut self.ebpf, &functions)
            }
        }
    }

    fn attach_ends(&mut self) -> Result<(), BpfError> {
        let polls = ["sys_enter_poll", "sys_enter_ppoll"];
        let waits = [
            "sys_enter_epoll_wait",
            "sys_enter_epoll_pwait",
            "sys_enter_epoll_pwait2",
        ];
        for (program, entries) in [
            (program::EPOLL_WAIT_ENTER, &waits[..]),
            (program::EPOLL_CTL_ENTER, &["sys_enter_epoll_ctl"]),
            (program::POLL_ENTER, &polls),
        ] {
            let places: Vec<_> = entries.iter().map(|entry| ("syscalls", *entry)).collect();
            tracepoints(&mut self.ebpf, program, &places)?;
        }
        Ok(())
    }
}
