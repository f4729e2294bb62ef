//! NVMe, Fabrics and TCP structures as typed bytes, with one validator per PDU
