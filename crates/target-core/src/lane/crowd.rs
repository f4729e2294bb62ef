//! Which connection makes room for a new one.
//!
//! Only connections without a complete Connect make room: a host that means it is through in milliseconds. Of those, the
//! oldest goes of whoever has the most, so that a crowd ends its own. Who has its share ends nobody's but its own: otherwise a
//! peer that goes on connecting could keep everybody else from ever completing a Connect.

use super::{End, Lane};
use crate::quota::AccountId;
use crate::{ConnId, Loss, Payer};

impl Lane {
    /// As many connections have no complete Connect as may be: which one makes room for a connection of `payer`.
    #[cold]
    pub(super) fn to_make_room(&self, payer: Payer) -> Option<ConnId> {
        let most = self.ledger.most_half_open();
        // With one more it would have the most.
        let own = self.ledger.find(payer).filter(|own| self.ledger.half_open(*own) >= most);
        match own {
            Some(own) => self.oldest_half_open(|account| account == own),
            None => self.oldest_half_open(|account| self.ledger.half_open(account) == most),
        }
    }

    /// `payer` may have no more connections, or none are left: which one makes room, if that may be.
    #[cold]
    pub(super) fn to_give_its_place(&self, payer: Payer) -> Option<ConnId> {
        let own = self.ledger.find(payer);
        let has = own.map_or(0, |own| self.ledger.connections(own));
        own.and_then(|own| self.oldest_half_open(|account| account == own)).or_else(|| {
            let most = self.ledger.most_half_open();
            self.oldest_half_open(|account| {
                self.ledger.half_open(account) == most && self.ledger.connections(account) > has
            })
        })
    }

    /// The oldest connection without a complete Connect of such an account.
    fn oldest_half_open(&self, whose: impl Fn(AccountId) -> bool) -> Option<ConnId> {
        self.half_open.iter().filter(|(account, _)| whose(*account)).map(|(_, conn)| *conn).min()
    }

    /// Ends a connection to make room.
    #[cold]
    pub(super) fn crowd_out(&mut self, conn: ConnId) {
        if let Some(known) = self.conns.get(&conn) {
            self.ledger.refuse(known.payer);
        }
        self.end(conn, End::Abort, Loss::Crowded, true);
    }
}
