//! The control device of ublk: make, start, recover and end devices.

use super::sys;
use crate::ExportError;
use interlock_ring::driver_command;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// A control command that only changes the kernel's tables is a matter of milliseconds.
const SOON: Duration = Duration::from_secs(10);

/// What the kernel knows of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) queues: u16,
    pub(super) depth: u16,
    pub(super) state: u16,
    /// Bytes of the largest request.
    pub(super) io_max: u32,
    pub(super) id: u32,
    /// Who serves it.
    pub(super) pid: i32,
    pub(super) flags: u64,
    /// What a server may remember with a device (`ublksrv_flags`): whose it is.
    pub(super) mark: u64,
}

impl Info {
    const LEN: usize = 64;

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::LEN);
        for half in [self.queues, self.depth, self.state, 0] {
            bytes.extend(half.to_ne_bytes());
        }
        bytes.extend(self.io_max.to_ne_bytes());
        bytes.extend(self.id.to_ne_bytes());
        bytes.extend(self.pid.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(self.mark.to_ne_bytes());
        bytes.resize(Self::LEN, 0);
        bytes
    }

    fn decode(bytes: &[u8]) -> io::Result<Self> {
        let short = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is too short");
        let bytes: &[u8; Self::LEN] = bytes.try_into().map_err(|_| short())?;
        let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        Ok(Self {
            queues: half(0),
            depth: half(2),
            state: half(4),
            io_max: word(8),
            id: word(12),
            pid: word(16).cast_signed(),
            flags: long(24),
            mark: long(32),
        })
    }
}

/// What a device looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Params {
    pub(super) block: u32,
    /// Bytes.
    pub(super) size: u64,
    pub(super) read_only: bool,
    /// Bytes of the largest request with payload.
    pub(super) io_max: u32,
    /// Bytes of the largest discard or zeroing.
    pub(super) wide_max: u32,
}

impl Params {
    fn encode(&self) -> Vec<u8> {
        const LEN: u32 = 64;
        let sectors = |bytes: u64| u32::try_from(bytes / sys::SECTOR).unwrap_or(u32::MAX);
        let mut attrs = sys::ATTR_VOLATILE_CACHE | sys::ATTR_FUA;
        if self.read_only {
            attrs |= sys::ATTR_READ_ONLY;
        }
        let shift = self.block.trailing_zeros() as u8; // a power of two
        let mut bytes = Vec::with_capacity(LEN as usize);
        for word in [LEN, sys::PARAM_TYPE_BASIC | sys::PARAM_TYPE_DISCARD, attrs] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend([shift, shift.max(12), shift.max(12), shift]); // logical, physical, optimal, least
        bytes.extend(sectors(self.io_max.into()).to_ne_bytes());
        bytes.extend([0; 4]); // chunk
        bytes.extend((self.size / sys::SECTOR).to_ne_bytes());
        bytes.extend([0; 8]); // virtual boundary
        let wide = sectors(self.wide_max.into());
        for word in [0, self.block, wide, wide] {
            bytes.extend(word.to_ne_bytes()); // alignment, granularity, discard, zeroes
        }
        bytes.extend(1_u16.to_ne_bytes()); // segments of one discard
        bytes.resize(LEN as usize, 0);
        bytes
    }
}

/// The control device.
#[derive(Debug)]
pub(super) struct Control {
    device: File,
    pub(super) features: u64,
}

impl Control {
    /// Opens it, and looks whether it can what is needed.
    pub(super) fn open() -> Result<Self, ExportError> {
        let no = |why: String| ExportError::NoUblk { why };
        let device = File::options().read(true).write(true).open("/dev/ublk-control").map_err(|error| {
            no(match error.kind() {
                io::ErrorKind::NotFound => {
                    "/dev/ublk-control is missing: load the module ublk_drv (Linux 6.0 or newer, CONFIG_BLK_DEV_UBLK)"
                        .to_owned()
                }
                _ => format!("/dev/ublk-control: {error}"),
            })
        })?;
        let mut control = Self { device, features: 0 };
        let (_, bytes) = control.run(sys::GET_FEATURES, u32::MAX, 0, vec![0; 8], SOON).map_err(|error| {
            no(format!("the kernel does not tell its features (Linux 6.5 or newer is needed): {error}"))
        })?;
        control.features = bytes.try_into().map_or(0, u64::from_ne_bytes);
        let needed = sys::F_USER_RECOVERY | sys::F_USER_RECOVERY_REISSUE | sys::F_CMD_IOCTL_ENCODE;
        if control.features & needed != needed {
            return Err(no(format!("it cannot recover devices (features {:#x})", control.features)));
        }
        Ok(control)
    }

    /// What the kernel knows of device `id`; `None`: there is no such device.
    pub(super) fn info(&self, id: u32) -> Result<Option<Info>, ExportError> {
        match self.run(sys::GET_DEV_INFO, id, 0, vec![0; Info::LEN], SOON) {
            Err(error) if error.kind() == io::ErrorKind::NotFound || is_no_device(&error) => Ok(None),
            answer => {
                let info = answer.and_then(|(_, bytes)| Info::decode(&bytes)).map_err(refused(id, "describe it"))?;
                Ok(Some(info))
            }
        }
    }

    /// Makes a device; `u32::MAX` as its number lets the kernel choose.
    pub(super) fn add(&self, info: Info) -> Result<Info, ExportError> {
        let answer = self.run(sys::ADD_DEV, info.id, 0, info.encode(), SOON);
        answer.and_then(|(_, bytes)| Info::decode(&bytes)).map_err(|error| {
            if is_there(&error) { ExportError::UblkForeign { id: info.id } } else { refused(info.id, "make it")(error) }
        })
    }

    pub(super) fn set_params(&self, id: u32, params: Params) -> Result<(), ExportError> {
        self.run(sys::SET_PARAMS, id, 0, params.encode(), SOON).map(drop).map_err(refused(id, "take its parameters"))
    }

    /// A command without a buffer.
    pub(super) fn simple(&self, op: u32, id: u32, data: u64, within: Duration) -> io::Result<()> {
        self.run(op, id, data, Vec::new(), within).map(drop)
    }

    fn run(&self, op: u32, id: u32, data: u64, bytes: Vec<u8>, within: Duration) -> io::Result<(u32, Vec<u8>)> {
        let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        let make = |at: u64| {
            let mut command = [0; 80];
            command[0..4].copy_from_slice(&id.to_ne_bytes());
            command[4..6].copy_from_slice(&u16::MAX.to_ne_bytes()); // no queue
            command[6..8].copy_from_slice(&len.to_ne_bytes());
            if len > 0 {
                command[8..16].copy_from_slice(&at.to_ne_bytes());
            }
            command[16..24].copy_from_slice(&data.to_ne_bytes());
            command
        };
        driver_command(self.device.as_fd(), op, bytes, make, within)
    }
}

/// The error of a device's control command.
pub(super) fn refused(id: u32, what: &'static str) -> impl FnOnce(io::Error) -> ExportError {
    move |source| ExportError::Ublk { id, what, source }
}

/// `ENODEV`.
pub(super) fn is_no_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

/// `EEXIST`.
pub(super) fn is_there(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::EXIST.raw_os_error())
}

/// `EBUSY`.
/// True if the kernel has no such device (any more).
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

pub(super) fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_lie_as_the_kernel_says() {
        let info = Info {
            queues: 2,
            depth: 64,
            state: 1,
            io_max: 0x8_0000,
            id: 7,
            pid: -3,
            flags: 0x1234_5678_9abc_def0,
            mark: 0x0fed_cba9_8765_4321,
        };
        let bytes = info.encode();
        assert_eq!(bytes.len(), 64);
        assert_eq!(bytes[..6], [2, 0, 64, 0, 1, 0]);
        assert_eq!(bytes[24..32], 0x1234_5678_9abc_def0_u64.to_ne_bytes());
        assert_eq!(bytes[32..40], 0x0fed_cba9_8765_4321_u64.to_ne_bytes());
        assert_eq!(Info::decode(&bytes).unwrap(), info);
        assert!(Info::decode(&bytes[1..]).is_err());
        let params =
            Params { block: 4096, size: 1 << 30, read_only: true, io_max: 1 << 19, wide_max: 1 << 30 }.encode();
        let word = |at: usize| u32::from_ne_bytes(params[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(4), word(8)), (64, 3, 0b1101));
        assert_eq!(params[12..16], [12, 12, 12, 12]);
        assert_eq!((word(16), word(24)), (1024, 1 << 21), "largest request, sectors of the device");
        assert_eq!((word(40), word(44), word(48), word(52)), (0, 4096, 1 << 21, 1 << 21));
        assert_eq!(params[56..58], [1, 0]);
    }

    #[test]
    fn where_there_is_no_ublk_one_sentence_says_what_to_do() {
        if std::path::Path::new("/dev/ublk-control").exists() {
            return; // the interop lab tries the rest
        }
        let error = Control::open().unwrap_err().to_string();
        assert_eq!(
            error,
            "ublk cannot be used: /dev/ublk-control is missing: load the module ublk_drv (Linux 6.0 or newer, \
             CONFIG_BLK_DEV_UBLK); NBD works everywhere"
        );
    }
}
