//! Sending by a system call for each connection.

use std::io;
use std::mem::size_of;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Instant;

use socket2::SockRef;

use crate::PATIENCE;
use crate::sending::{Rest, Sender, copies};

/// `SO_EE_CODE_ZEROCOPY_COPIED`, in a notification: the octets were copied after all.
const ZEROCOPY_COPIED: u8 = 1;

/// send(2), one after the other.
pub(crate) struct Calls {
    sockets: Rc<[TcpStream]>,
    payload: &'static [u8],
    /// `MSG_ZEROCOPY`, or none.
    flags: i32,
    notifications: u64,
    copied: u64,
    unsettled: Vec<usize>,
}

impl Calls {
    pub(crate) fn new(sockets: Rc<[TcpStream]>, payload: &'static [u8], flags: i32) -> Calls {
        Calls {
            sockets,
            payload,
            flags,
            notifications: 0,
            copied: 0,
            unsettled: Vec::new(),
        }
    }
}

impl Sender for Calls {
    fn send(&mut self, size: usize, rests: &mut Vec<Rest>) -> io::Result<()> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | self.flags;
        for (connection, socket) in self.sockets.iter().enumerate() {
            let result = match SockRef::from(socket).send_with_flags(&self.payload[..size], flags) {
                Ok(sent) => sent as i32,
                Err(error) => -error.raw_os_error().expect("send fails with an errno"),
            };
            if result != size as i32 {
                rests.push(Rest { connection, result });
            }
            if self.flags != 0 && result > 0 {
                self.unsettled.push(connection);
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while let Some(connection) = self.unsettled.last() {
            match notification(&self.sockets[*connection]) {
                Ok(copied) => {
                    self.unsettled.pop();
                    self.notifications += 1;
                    self.copied += u64::from(copied);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn remark(&self) -> Option<String> {
        copies(self.notifications, self.copied)
    }
}

pub(crate) fn allow_zero_copy(socket: &TcpStream) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value is an int that outlives the call, as the option wants it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ZEROCOPY,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Takes one `MSG_ZEROCOPY` notification off the error queue: were the octets copied?
fn notification(socket: &TcpStream) -> io::Result<bool> {
    /// `struct cmsghdr` and `struct sock_extended_err`, and room for the address behind it.
    #[repr(C, align(8))]
    struct Control {
        header: libc::cmsghdr,
        error: libc::sock_extended_err,
        rest: [u8; 64],
    }
    // SAFETY: a structure of integers and one of integers and null pointers: zeroes are values of both.
    let (mut control, mut message): (Control, libc::msghdr) = unsafe { std::mem::zeroed() };
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: `message` names no memory but `control`, with its length, and both outlive the call.
    let received = unsafe {
        libc::recvmsg(
            socket.as_raw_fd(),
            &mut message,
            libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT,
        )
    };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(control.error.ee_code == ZEROCOPY_COPIED)
}
