//! Reactors: sockets, files, timers and staging buffers over io_uring
