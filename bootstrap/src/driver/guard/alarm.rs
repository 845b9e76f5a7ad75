//! The alarm of a guard: rings at a moment of the clock that goes on in suspend, as soon as the machine wakes up.
//!
//! A wait with a limit counts on a clock that stops in suspend, and would let a service live on for what was left of it.
//! Source: timerfd_create(2), CLOCK_BOOTTIME. Layer: the edge.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::Sender;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::Event;
use crate::clock::BootTime;

pub(super) struct Alarm {
    timer: Arc<OwnedFd>,
}

impl Alarm {
    /// An alarm that is not set, and rings as [`Event::Alarm`].
    pub(super) fn new(events: &Sender<Event>) -> io::Result<Alarm> {
        let timer = Arc::new(timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)?);
        let (rings, events) = (Arc::clone(&timer), events.clone());
        thread::Builder::new().name("alarm".into()).spawn(move || {
            let mut count = [0_u8; 8];
            loop {
                match rustix::io::read(&*rings, &mut count) {
                    Err(error) if error != rustix::io::Errno::INTR => return,
                    Err(_) => continue,
                    Ok(_) if events.send(Event::Alarm).is_err() => return,
                    Ok(_) => {}
                }
            }
        })?;
        Ok(Alarm { timer })
    }

    /// Rings then, or at once if that is past; never with `None`.
    pub(super) fn set(&self, at: Option<BootTime>) -> io::Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = at.map_or(zero, |at| {
            let elapsed = at.since_boot();
            Timespec {
                tv_sec: i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX),
                // All zeros would switch it off.
                tv_nsec: elapsed.subsec_nanos().max(1).into(),
            }
        });
        let setting = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&*self.timer, TimerfdTimerFlags::ABSTIME, &setting)?;
        Ok(())
    }
}
