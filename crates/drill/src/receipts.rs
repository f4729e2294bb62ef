//! Receipts of a scenario, by the addresses that were asked for: the host may have reached them through a proxy.

use crate::evidence::Record;
use interlock_api::Receipt;
use interlock_host::{CtrlId, Receipt as HostReceipt, words};
use std::collections::BTreeMap;
use std::net::SocketAddr;

pub(crate) use interlock_host::words::{detected as how, method, whole_millis};

/// Where each controller is.
pub(crate) type Paths = BTreeMap<CtrlId, SocketAddr>;

/// Every receipt of a scenario.
pub(crate) fn receipts(record: &Record, paths: &Paths) -> Vec<Receipt> {
    record.receipts().map(|receipt| words::receipt(&placed(receipt, paths))).collect()
}

fn placed(receipt: &HostReceipt, paths: &Paths) -> HostReceipt {
    let mut receipt = receipt.clone();
    receipt.addr = paths.get(&receipt.ctrl).copied().or(receipt.addr);
    if let Some(by) = &mut receipt.source {
        by.addr = paths.get(&by.ctrl).copied().or(by.addr);
    }
    receipt
}
